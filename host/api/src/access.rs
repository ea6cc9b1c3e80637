//! Who asks, and whether they may: bearer tokens to callers, and callers to sites and instances.
//!
//! Decides only; what a caller may see beyond its account is nothing, so every route goes through [`Caller`],
//! [`PlatformCaller`] or [`IngestCaller`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sgen_audit::Actor;
use sgen_model::{AccountId, ConnectorInstance, InstanceId, SiteId, Timestamp};

use crate::directory::{Holder, IngestKey, Operator};
use crate::problem::Problem;
use crate::state::Api;
use crate::token::TokenDigest;

/// One refusal of one operator at one site is recorded once in this time: who asks in a loop fills no log.
const DENIAL_PERIOD: Duration = Duration::from_secs(60);
/// The most refusals remembered for that.
const DENIAL_LIMIT: usize = 10_000;

/// The platform or an operator.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Platform,
    Operator(Arc<Operator>),
}

/// The platform.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlatformCaller;

/// A site's ingest key.
#[derive(Debug, Clone)]
pub(crate) struct IngestCaller(pub(crate) Arc<IngestKey>);

enum Anyone {
    Platform,
    Holder(Holder),
}

fn authenticate(parts: &Parts, api: &Api) -> Result<Anyone, Problem> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthenticated("send one header `Authorization: Bearer TOKEN`"));
    };
    let token = value.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let Some((_, token)) = token else {
        return Err(Problem::unauthenticated("the Authorization header is not `Bearer TOKEN`"));
    };
    let digest = TokenDigest::of(token);
    if let Some(holder) = api.directory.holder(&digest) {
        return Ok(Anyone::Holder(holder));
    }
    if digest.is(&api.platform_token_digest) {
        return Ok(Anyone::Platform);
    }
    Err(Problem::unauthenticated("this token is not known; it may have been revoked"))
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        match authenticate(parts, api)? {
            Anyone::Platform => Ok(Self::Platform),
            Anyone::Holder(Holder::Operator(operator)) => Ok(Self::Operator(operator)),
            Anyone::Holder(Holder::Ingest(_)) => {
                Err(Problem::forbidden("an ingest key may only post events; use an operator's token"))
            }
        }
    }
}

impl FromRequestParts<Arc<Api>> for PlatformCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, api).await? {
            Caller::Platform => Ok(Self),
            Caller::Operator(operator) => {
                let what = format!("{} {}", parts.method, parts.uri.path());
                api.refused(&operator, None, what).await;
                Err(Problem::forbidden("only the platform may do this"))
            }
        }
    }
}

impl FromRequestParts<Arc<Api>> for IngestCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        match authenticate(parts, api)? {
            Anyone::Holder(Holder::Ingest(key)) => Ok(Self(key)),
            Anyone::Platform | Anyone::Holder(Holder::Operator(_)) => {
                Err(Problem::forbidden("events are posted with a site's ingest key, not with this token"))
            }
        }
    }
}

impl Caller {
    /// Under which name this caller's changes are recorded.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Platform => Actor::Platform,
            Self::Operator(operator) => Actor::Operator(operator.id.clone()),
        }
    }

    /// The account of a site that this caller may act on.
    pub(crate) async fn on_site(&self, api: &Api, site: &SiteId) -> Result<AccountId, Problem> {
        let Some(found) = api.directory.site(site) else {
            return Err(Problem::not_found(format!("there is no site {site}; register it first")));
        };
        self.of_account(api, &found.account, site).await?;
        Ok(found.account)
    }

    /// An account that this caller may act on. One without a site is not known.
    pub(crate) async fn on_account(&self, api: &Api, account: &AccountId) -> Result<(), Problem> {
        match self {
            Self::Operator(operator) if operator.account != *account => {
                api.refused(operator, None, format!("account {account}")).await;
                Err(Problem::forbidden("this is another account"))
            }
            _ if api.directory.has_account(account) => Ok(()),
            _ => Err(Problem::not_found(format!("account {account} has no site; register one first"))),
        }
    }

    /// An instance that this caller may act on.
    pub(crate) async fn on_instance(&self, api: &Api, id: &InstanceId) -> Result<ConnectorInstance, Problem> {
        let instance = api.runtime.instance(id)?;
        self.of_account(api, &instance.account, &instance.place.site).await?;
        Ok(instance)
    }

    async fn of_account(&self, api: &Api, account: &AccountId, site: &SiteId) -> Result<(), Problem> {
        match self {
            Self::Operator(operator) if operator.account != *account => {
                api.refused(operator, Some(site), format!("site {site}")).await;
                Err(Problem::forbidden("this site belongs to another account"))
            }
            _ => Ok(()),
        }
    }
}

/// Which refusals have been recorded lately.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<(Operator, Option<SiteId>), Timestamp>>);

impl Denials {
    /// Whether this refusal is due to be recorded.
    fn due(&self, operator: &Operator, site: Option<&SiteId>, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (operator.clone(), site.cloned());
        if seen.get(&key).is_some_and(|at| now.since(*at) < DENIAL_PERIOD) {
            return false;
        }
        if seen.len() >= DENIAL_LIMIT {
            seen.clear();
        }
        seen.insert(key, now);
        true
    }
}

impl Api {
    async fn refused(&self, operator: &Operator, site: Option<&SiteId>, what: String) {
        if self.denials.due(operator, site, self.clock.now()) {
            let what = format!("{what} asked for by an operator of account {}", operator.account);
            self.directory.record_denial(&Actor::Operator(operator.id.clone()), what).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sgen_model::OperatorId;

    #[test]
    fn a_refusal_in_a_loop_is_recorded_once_a_minute() {
        let denials = Denials::default();
        let ada = Operator { account: AccountId::parse("a").unwrap(), id: OperatorId::parse("ada").unwrap() };
        let (x, y) = (SiteId::parse("x").unwrap(), SiteId::parse("y").unwrap());
        assert!(denials.due(&ada, Some(&x), Timestamp(1_000)));
        assert!(!denials.due(&ada, Some(&x), Timestamp(60_999)));
        assert!(denials.due(&ada, Some(&y), Timestamp(60_999)));
        assert!(denials.due(&ada, Some(&x), Timestamp(61_000)));
    }
}
