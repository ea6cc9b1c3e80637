//! Changes of a grant by an operator: a consent that comes back from the vendor, and giving it back. While one is made, the
//! grant is not renewed.

use std::sync::Arc;

use sgen_model::Timestamp;
use sgen_store::Commit;
use tokio::sync::OwnedMutexGuard;

use super::{Held, Source, explained};
use crate::answer::Obtained;
use crate::consent::Pending;
use crate::error::TokenError;
use crate::record::Granted;
use crate::setup::{Facts, Means};

impl Source {
    /// Exchanges the code of a callback. Nothing is kept yet.
    ///
    /// # Errors
    /// [`TokenError::Refused`] when the vendor refuses the code or the client, [`TokenError::Unavailable`] when it does not
    /// answer.
    pub async fn connect(&self, pending: &Pending, code: &str) -> Result<Connected, TokenError> {
        let exchange = self.exchange();
        let slot = &exchange.setup.facts.slot;
        if let Means::Unusable(reason) = &exchange.setup.means {
            return Err(TokenError::Refused(reason.clone()));
        }
        let asked_at = self.rooms.clock.now();
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", pending.redirect.as_str()),
            ("code_verifier", pending.verifier.as_str()),
        ];
        let obtained = exchange.ask("", &pairs).await.map_err(|refusal| {
            let failure = explained(
                refusal,
                &format!("the vendor refuses the consent to {slot}"),
                "the operator must authorise again",
            );
            match failure.error {
                TokenError::Refused(said) => TokenError::Refused(self.scrubber.text(said)),
                TokenError::Unavailable(said) => TokenError::Unavailable(self.scrubber.text(said)),
                other => other,
            }
        })?;
        Ok(Connected { obtained, asked_at })
    }

    /// Waits for the renewal that is under way, if one is, and keeps others from beginning until the change is done or
    /// dropped.
    ///
    /// # Errors
    /// [`TokenError::Stopping`].
    pub async fn change(&self) -> Result<Change, TokenError> {
        let source = self.me.upgrade().ok_or(TokenError::Stopping)?;
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Ok(Change { source, _turn: turn, next: None })
    }
}

/// What a vendor handed out for a code.
pub struct Connected {
    obtained: Obtained,
    asked_at: Timestamp,
}

/// What became of a grant at its vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// The vendor has taken it back.
    Revoked,
    /// The manifest names no revocation endpoint.
    NotOffered,
    /// It may still count there: why.
    Failed(String),
}

/// A change of a grant, during which it is not renewed. It takes effect by [`Change::done`], once the commit is on disk.
pub struct Change {
    source: Arc<Source>,
    _turn: OwnedMutexGuard<()>,
    next: Option<Held>,
}

impl Change {
    /// Seals what a vendor handed out into the caller's commit, in the place of everything that the slot held, and answers its
    /// fingerprint. `consent` is the version of the credential, from 1.
    ///
    /// # Errors
    /// The vault's, or [`TokenError::Unavailable`] when the token cannot be used.
    pub fn connect(&mut self, connected: Connected, consent: u32, commit: &mut Commit) -> Result<String, TokenError> {
        let source = &self.source;
        let exchange = source.exchange();
        let facts = &exchange.setup.facts;
        let version = match source.read(facts) {
            Ok(found) => found.map_or(0, |(version, _)| version),
            // What cannot be read is what a consent mends.
            Err(TokenError::Record { .. }) => 0,
            Err(error) => return Err(error),
        };
        let granted = Granted::new(connected.obtained, connected.asked_at, consent, None);
        source.learn_grant(&granted)?;
        let held = source.hold(&granted.access, granted.life, false).map_err(|failure| failure.error)?;
        source.rooms.vault.delete_slot(&facts.place, &facts.instance, &facts.slot, commit)?;
        source.seal(facts, version.saturating_add(1), &granted, commit)?;
        self.next = Some(held);
        Ok(source.rooms.vault.secret_fingerprint(granted.essence().as_bytes()))
    }

    /// Gives the grant back to its vendor, as far as that has an endpoint for it.
    ///
    /// # Errors
    /// The vault's.
    pub async fn revoke(&self) -> Result<Upstream, TokenError> {
        let exchange = self.source.exchange();
        let Some((_, granted)) = self.source.read(&exchange.setup.facts)? else { return Ok(Upstream::NotOffered) };
        self.source.learn_grant(&granted)?;
        let (token, hint) = match &granted.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&granted.access, "access_token"),
        };
        Ok(match exchange.revoke(token, hint).await {
            None => Upstream::NotOffered,
            Some(Ok(())) => Upstream::Revoked,
            Some(Err(said)) => Upstream::Failed(self.source.scrubber.text(said)),
        })
    }

    /// Deletes the grant in the caller's commit.
    ///
    /// # Errors
    /// The store's.
    pub fn forget(&mut self, commit: &mut Commit) -> Result<(), TokenError> {
        let exchange = self.source.exchange();
        let Facts { place, instance, slot, .. } = &exchange.setup.facts;
        self.next = None;
        Ok(self.source.rooms.vault.delete_slot(place, instance, slot, commit)?)
    }

    /// The commit is on disk.
    pub fn done(self) {
        self.source.resume();
        self.source.hold_now(self.next);
    }
}
