//! Whose data key it is: a site's, or an account's. Everything sealed is bound to it.

use std::fmt;

use sgen_model::{AccountId, SiteId};

use crate::error::VaultError;

const SITE: &str = "site/";
const ACCOUNT: &str = "account/";

/// Whom a data key belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOwner {
    /// A site: its events, its letters and the credentials of its instances.
    Site(SiteId),
    /// An account: the credentials that its sites share.
    Account(AccountId),
}

impl KeyOwner {
    /// What records are bound to. No site's id has a slash, so no account is taken for a site.
    pub(crate) fn binding(&self) -> String {
        match self {
            Self::Site(site) => site.to_string(),
            Self::Account(account) => format!("{ACCOUNT}{account}"),
        }
    }

    /// Where the wrapped keys are.
    pub(crate) fn key(&self) -> Vec<u8> {
        match self {
            Self::Site(site) => format!("{SITE}{site}").into_bytes(),
            Self::Account(account) => format!("{ACCOUNT}{account}").into_bytes(),
        }
    }

    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        if let Some(site) = text.strip_prefix(SITE) {
            return SiteId::parse(site).ok().map(Self::Site);
        }
        AccountId::parse(text.strip_prefix(ACCOUNT)?).ok().map(Self::Account)
    }

    pub(crate) fn unknown(&self) -> VaultError {
        match self {
            Self::Site(site) => VaultError::UnknownSite { site: site.clone() },
            Self::Account(account) => VaultError::UnknownAccount { account: account.clone() },
        }
    }

    pub(crate) fn destroyed(&self) -> VaultError {
        match self {
            Self::Site(site) => VaultError::SiteDestroyed { site: site.clone() },
            Self::Account(account) => VaultError::UnknownAccount { account: account.clone() },
        }
    }
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => write!(f, "site {site}"),
            Self::Account(account) => write!(f, "account {account}"),
        }
    }
}

impl From<SiteId> for KeyOwner {
    fn from(site: SiteId) -> Self {
        Self::Site(site)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_owner_is_found_again_by_its_key_and_never_shares_a_binding() {
        let owners =
            [KeyOwner::Site(SiteId::parse("acme").unwrap()), KeyOwner::Account(AccountId::parse("acme").unwrap())];
        for owner in &owners {
            assert_eq!(KeyOwner::of_key(&owner.key()).as_ref(), Some(owner));
        }
        assert_ne!(owners[0].binding(), owners[1].binding());
        for other in [&b"fingerprint"[..], b"site/", b"site/A", b"site/\xff", b"acme"] {
            assert_eq!(KeyOwner::of_key(other), None);
        }
    }
}
