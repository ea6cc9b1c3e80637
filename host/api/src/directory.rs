//! The directory: which account owns which site, who operates it, and which ingest keys capture into it.
//!
//! Kept in the store, with every change in one commit with its audit record; read from memory, because every captured
//! event asks it who is there. Tokens are here only as digests.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use sgen_audit::{Action, Actor, AuditLog, Draft, PLATFORM_SITE};
use sgen_delivery::Runtime;
use sgen_model::{AccountId, Clock, Entropy, Environment, InstanceId, OperatorId, Place, SiteId, Timestamp};
use sgen_store::{Commit, Keyspace, Store};
use sgen_vault::{Vault, VaultError};
use tokio::sync::Mutex;

use crate::error::ApiError;
use crate::ingest::Gauge;
use crate::problem::Problem;
use crate::token::{TokenDigest, TokenKind, generate_id, generate_token};

/// How many entries are read at a time at start.
const PAGE: usize = 1_000;

/// A site, as registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) account: AccountId,
    pub(crate) registered_at: Timestamp,
}

/// An ingest key in memory. Keys of one place share one gauge of bytes in flight.
#[derive(Debug)]
pub(crate) struct IngestKey {
    pub(crate) place: Place,
    pub(crate) in_flight: Arc<Gauge>,
}

/// An operator in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Operator {
    pub(crate) account: AccountId,
    pub(crate) id: OperatorId,
}

/// Whom a token belongs to.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    Operator(Arc<Operator>),
    Ingest(Arc<IngestKey>),
}

/// A token as stored: its digest.
#[derive(Debug, Serialize, Deserialize)]
struct StoredToken {
    digest: String,
    created_at: Timestamp,
}

#[derive(Default)]
struct Tables {
    sites: HashMap<SiteId, Site>,
    holders: HashMap<TokenDigest, Holder>,
    // From the key in the store to the digest, to refuse a second one and to find one that is revoked.
    tokens: HashMap<String, TokenDigest>,
    gauges: HashMap<Place, Arc<Gauge>>,
}

/// A token just made: the only time that it is in the clear.
pub(crate) struct Issued {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// Accounts' sites, operators and ingest keys.
pub(crate) struct Directory {
    vault: Arc<Vault>,
    audit: Arc<AuditLog>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tables: RwLock<Tables>,
    // One change at a time, from the check to the durable commit: two registrations of one site cannot both be first.
    changes: Mutex<()>,
}

impl Directory {
    /// Reads the directory from the store.
    pub(crate) fn open(
        store: &dyn Store,
        vault: Arc<Vault>,
        audit: Arc<AuditLog>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ApiError> {
        let mut tables = Tables::default();
        each(store, Keyspace::Site, |key, value| {
            let site = SiteId::parse(key).map_err(|e| e.to_string())?;
            tables.sites.insert(site, serde_json::from_slice(value).map_err(|e| e.to_string())?);
            Ok(())
        })?;
        each(store, Keyspace::Access, |key, value| {
            let stored: StoredToken = serde_json::from_slice(value).map_err(|e| e.to_string())?;
            let digest = TokenDigest::from_hex(&stored.digest).ok_or("its digest is no SHA-256")?;
            tables.load(key, digest)
        })?;
        Ok(Self { vault, audit, clock, entropy, tables: RwLock::new(tables), changes: Mutex::new(()) })
    }

    /// Whom a token belongs to.
    pub(crate) fn holder(&self, digest: &TokenDigest) -> Option<Holder> {
        self.read().holders.get(digest).cloned()
    }

    pub(crate) fn site(&self, site: &SiteId) -> Option<Site> {
        self.read().sites.get(site).cloned()
    }

    /// Whether an account owns any site.
    pub(crate) fn has_account(&self, account: &AccountId) -> bool {
        self.read().sites.values().any(|site| site.account == *account)
    }

    /// Registers a site with its data key and its audit record, in one commit. `true` when it is new.
    pub(crate) async fn register_site(
        &self,
        account: &AccountId,
        site: &SiteId,
        catalog_version: Option<String>,
    ) -> Result<bool, Problem> {
        if site.as_str() == PLATFORM_SITE {
            return Err(Problem::conflict(format!("the name {PLATFORM_SITE:?} is reserved; choose another site id")));
        }
        let _changing = self.changes.lock().await;
        if let Some(known) = self.site(site) {
            return if known.account == *account {
                Ok(false)
            } else {
                Err(Problem::conflict(format!("site {site} belongs to another account; choose another site id")))
            };
        }
        let record = Site { account: account.clone(), registered_at: self.clock.now() };
        let mut commit = Commit::new();
        self.vault.create_site(site, &mut commit).map_err(|error| match &error {
            VaultError::SiteDestroyed { .. } => Problem::conflict(format!(
                "site {site} was erased, and its name is not given again; choose another site id"
            )),
            _ => Problem::from_internal(&error),
        })?;
        commit.put(Keyspace::Site, site.as_str(), encode(&record)?);
        let action = Action::SiteRegistered { account: account.clone() };
        self.commit(site, draft(&Actor::Platform, None, catalog_version, action), commit).await?;
        self.write().sites.insert(site.clone(), record);
        Ok(true)
    }

    /// Erases a site: what the directory has of it goes in one commit with its keys and the audit record. Answers the
    /// instances that it had.
    pub(crate) async fn erase_site(
        &self,
        runtime: &Arc<Runtime>,
        account: &AccountId,
        site: &SiteId,
    ) -> Result<Vec<InstanceId>, Problem> {
        let _changing = self.changes.lock().await;
        if self.site(site).is_none_or(|known| known.account != *account) {
            return Err(Problem::not_found(format!("account {account} has no site {site}")));
        }
        let ingest = format!("ingest/{site}/");
        let of_site = |key: &String| key.starts_with(&ingest);
        let mut commit = Commit::new();
        commit.delete(Keyspace::Site, site.as_str());
        for key in self.read().tokens.keys().filter(|key| of_site(key)) {
            commit.delete(Keyspace::Access, key.as_bytes());
        }
        let instances = runtime.erase_site(&Actor::Platform, account, site, commit).await?;
        let mut tables = self.write();
        let gone: Vec<String> = tables.tokens.keys().filter(|key| of_site(key)).cloned().collect();
        for key in gone {
            if let Some(digest) = tables.tokens.remove(&key) {
                tables.holders.remove(&digest);
            }
        }
        tables.gauges.retain(|place, _| place.site != *site);
        tables.sites.remove(site);
        Ok(instances)
    }

    /// Adds an operator to an account and answers the token.
    pub(crate) async fn add_operator(
        &self,
        account: &AccountId,
        operator: &OperatorId,
        catalog_version: Option<String>,
    ) -> Result<Issued, Problem> {
        let _changing = self.changes.lock().await;
        let key = format!("operator/{account}/{operator}");
        if self.read().tokens.contains_key(&key) {
            return Err(Problem::conflict(format!(
                "account {account} has an operator {operator} already, and a token is shown only once; choose another id"
            )));
        }
        let platform = SiteId::parse(PLATFORM_SITE)?;
        let action = Action::OperatorAdded { account: account.clone(), operator: operator.clone() };
        let draft = draft(&Actor::Platform, None, catalog_version, action);
        let token = self.issue(TokenKind::Operator, key, &platform, draft).await?;
        Ok(Issued { id: operator.to_string(), token })
    }

    /// Issues an ingest key for a place.
    pub(crate) async fn issue_ingest_key(
        &self,
        actor: &Actor,
        place: &Place,
        catalog_version: Option<String>,
    ) -> Result<Issued, Problem> {
        let _changing = self.changes.lock().await;
        let id = generate_id("key-", self.entropy.as_ref()).map_err(|e| Problem::from_internal(&e))?;
        let action = Action::IngestKeyIssued { key_id: id.clone() };
        let draft = draft(actor, Some(&place.environment), catalog_version, action);
        let token = self.issue(TokenKind::Ingest, ingest_key(place, &id), &place.site, draft).await?;
        Ok(Issued { id, token })
    }

    /// Revokes an ingest key: from the moment this returns, nothing is captured with it.
    pub(crate) async fn revoke_ingest_key(
        &self,
        actor: &Actor,
        place: &Place,
        id: &str,
        catalog_version: Option<String>,
    ) -> Result<(), Problem> {
        let _changing = self.changes.lock().await;
        let key = ingest_key(place, id);
        let Some(digest) = self.read().tokens.get(&key).copied() else {
            return Err(Problem::not_found(format!("{place} has no such ingest key")));
        };
        let mut commit = Commit::new();
        commit.delete(Keyspace::Access, key.as_bytes());
        let action = Action::IngestKeyRevoked { key_id: id.to_owned() };
        self.commit(&place.site, draft(actor, Some(&place.environment), catalog_version, action), commit).await?;
        let mut tables = self.write();
        tables.tokens.remove(&key);
        tables.holders.remove(&digest);
        Ok(())
    }

    /// Records that somebody was refused, in the platform's own log.
    pub(crate) async fn record_denial(&self, actor: &Actor, what: String) {
        let recorded = async {
            let platform = SiteId::parse(PLATFORM_SITE)?;
            let draft = draft(actor, None, None, Action::AccessDenied { what });
            self.commit(&platform, draft, Commit::new()).await
        };
        // The refusal stands whether or not it could be recorded; the failure has been logged.
        drop::<Result<(), Problem>>(recorded.await);
    }

    async fn issue(&self, kind: TokenKind, key: String, site: &SiteId, draft: Draft) -> Result<String, Problem> {
        let token = generate_token(kind, self.entropy.as_ref()).map_err(|e| Problem::from_internal(&e))?;
        let digest = TokenDigest::of(token.as_bytes());
        let stored = StoredToken { digest: digest.to_hex(), created_at: self.clock.now() };
        let mut commit = Commit::new();
        commit.put(Keyspace::Access, key.as_bytes(), encode(&stored)?);
        self.commit(site, draft, commit).await?;
        if let Err(reason) = self.write().load(&key, digest) {
            tracing::error!(reason, "a token that was just stored cannot be read");
            return Err(Problem::internal());
        }
        Ok(token)
    }

    async fn commit(&self, site: &SiteId, draft: Draft, commit: Commit) -> Result<(), Problem> {
        self.audit.append(site, vec![draft], commit)?.await?;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Enters a token by its key in the store: `operator/ACCOUNT/ID` or `ingest/SITE/ENVIRONMENT/ID`.
    fn load(&mut self, key: &str, digest: TokenDigest) -> Result<(), String> {
        let parts: Vec<&str> = key.split('/').collect();
        let holder = match parts.as_slice() {
            ["operator", account, id] => Holder::Operator(Arc::new(Operator {
                account: AccountId::parse(account).map_err(|e| e.to_string())?,
                id: OperatorId::parse(id).map_err(|e| e.to_string())?,
            })),
            ["ingest", site, environment, _] => {
                let site = SiteId::parse(site).map_err(|e| e.to_string())?;
                let environment = Environment::parse(environment).map_err(|e| e.to_string())?;
                let place = Place::new(site, environment);
                let in_flight = Arc::clone(self.gauges.entry(place.clone()).or_default());
                Holder::Ingest(Arc::new(IngestKey { place, in_flight }))
            }
            _ => return Err("it is neither an operator's nor an ingest key's".to_owned()),
        };
        self.holders.insert(digest, holder);
        self.tokens.insert(key.to_owned(), digest);
        Ok(())
    }
}

fn ingest_key(place: &Place, id: &str) -> String {
    format!("ingest/{place}/{id}")
}

fn draft(actor: &Actor, environment: Option<&Environment>, catalog_version: Option<String>, action: Action) -> Draft {
    Draft {
        environment: environment.cloned(),
        actor: actor.clone(),
        instance: None,
        connector: None,
        catalog_version,
        component_digest: None,
        action,
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|e| Problem::from_internal(&e))
}

/// Visits every entry of a keyspace whose keys are text.
fn each(
    store: &dyn Store,
    keyspace: Keyspace,
    mut visit: impl FnMut(&str, &[u8]) -> Result<(), String>,
) -> Result<(), ApiError> {
    let mut from = Vec::new();
    loop {
        let page = store.scan(keyspace, &from, b"", PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
        for (key, value) in page {
            let text = String::from_utf8_lossy(&key).into_owned();
            visit(&text, &value).map_err(|reason| ApiError::Directory {
                keyspace: keyspace.name(),
                key: text,
                reason,
            })?;
        }
    }
}
