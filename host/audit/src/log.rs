//! Appending, querying and verifying.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sgen_model::{Clock, ConnectorId, Environment, InstanceId, SiteId, Timestamp};
use sgen_store::{Commit, Keyspace, Store, Ticket};
use tlog_tiles::{HASH_SIZE, Hash};

use crate::error::AuditError;
use crate::record::{AuditRecord, Draft};
use crate::tree::{Known, Tree};

/// How many records are read at a time.
const PAGE: usize = 512;

/// The audit logs of all sites.
pub struct AuditLog {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    // Held while a commit is submitted: the order of the records is the order of the commits.
    trees: Mutex<HashMap<SiteId, Tree>>,
}

/// Which records a query answers.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this instance's.
    pub instance: Option<InstanceId>,
    /// Only this connector's.
    pub connector: Option<ConnectorId>,
    /// Only this environment's.
    pub environment: Option<Environment>,
    /// Only this kind (`configuration-changed`).
    pub event: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// What a verification found: the log is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The number of records.
    pub records: u64,
    /// The hash of the tree over them, in hex.
    pub root_hash: String,
}

/// The last state of a site's tree, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    size: u64,
    root: String,
}

impl AuditLog {
    /// Opens the logs in a store.
    ///
    /// # Errors
    /// [`AuditError::Store`].
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, AuditError> {
        Ok(Arc::new(Self { store, clock, trees: Mutex::default() }))
    }

    /// Adds records to a commit and submits it: the change and its records take effect together. Await the ticket.
    ///
    /// # Errors
    /// [`AuditError`] when the log cannot be read; nothing is submitted then.
    pub fn append(&self, site: &SiteId, drafts: Vec<Draft>, mut commit: Commit) -> Result<Ticket, AuditError> {
        let at = self.clock.now();
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tree = match trees.get(site) {
            Some(tree) => tree.clone(),
            None => self.load(site)?,
        };
        for draft in drafts {
            let record = AuditRecord { index: tree.size(), at, site: site.clone(), draft };
            let bytes = serde_json::to_vec(&record).map_err(|e| AuditError::Encode(e.to_string()))?;
            for (index, hash) in tree.append(&bytes).map_err(|e| altered(site, e))? {
                commit.insert(Keyspace::AuditHash, numbered(site, index), hash.0);
            }
            commit.insert(Keyspace::Audit, numbered(site, record.index), bytes);
        }
        let root = tree.root().map_err(|e| altered(site, e))?;
        let head = Head { size: tree.size(), root: hex::encode(root.0) };
        let head = serde_json::to_vec(&head).map_err(|e| AuditError::Encode(e.to_string()))?;
        commit.put(Keyspace::Meta, head_key(site), head);
        commit.check()?;
        let ticket = self.store.submit(commit);
        // A commit that fails ends the store, so the tree in memory never runs ahead of one that goes on.
        trees.insert(site.clone(), tree);
        Ok(ticket)
    }

    /// The records that match, newest first. `before` is an index to go on from.
    ///
    /// # Errors
    /// [`AuditError`] when the log cannot be read.
    pub fn query(
        &self,
        site: &SiteId,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AuditError> {
        let prefix = prefix(site);
        let mut upper = before.map(|index| numbered(site, index)).unwrap_or_default();
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.store.scan_back(Keyspace::Audit, &upper, &prefix, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            upper.clone_from(last);
            let full = page.len() == PAGE;
            for (_, bytes) in page {
                let record = parse(site, &bytes)?;
                if filter.since.is_some_and(|since| record.at < since) {
                    return Ok(found);
                }
                if filter.admits(&record) && found.len() < limit {
                    found.push(record);
                }
            }
            if !full {
                break;
            }
        }
        Ok(found)
    }

    /// Recomputes the site's tree from its records and compares every stored hash and the head.
    ///
    /// # Errors
    /// [`AuditError::Altered`] names the first thing that does not fit.
    pub fn verify(&self, site: &SiteId) -> Result<Verification, AuditError> {
        let head = self.head(site)?;
        let mut tree = Tree::default();
        self.each(site, head.size, |index, bytes| {
            let record = parse(site, bytes)?;
            if record.index != index || record.site != *site {
                return Err(altered(
                    site,
                    format!("record {index} says that it is {} of {}", record.index, record.site),
                ));
            }
            for (stored, hash) in tree.append(bytes).map_err(|e| altered(site, e))? {
                let there = self.store.get(Keyspace::AuditHash, &numbered(site, stored))?;
                if there.as_deref() != Some(&hash.0[..]) {
                    return Err(altered(site, format!("the hash at {stored} does not match record {index}")));
                }
            }
            Ok(())
        })?;
        let root = hex::encode(tree.root().map_err(|e| altered(site, e))?.0);
        if root != head.root {
            return Err(altered(site, "the records do not match the head"));
        }
        Ok(Verification { records: head.size, root_hash: root })
    }

    /// Every site that has records.
    ///
    /// # Errors
    /// [`AuditError`] when the store cannot be read.
    pub fn sites(&self) -> Result<Vec<SiteId>, AuditError> {
        let mut sites = Vec::new();
        let mut from = Vec::new();
        loop {
            let page = self.store.scan(Keyspace::Meta, &from, HEAD.as_bytes(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(sites) };
            from.clone_from(last);
            from.push(0);
            for (key, _) in page {
                let name = key.get(HEAD.len()..).and_then(|name| std::str::from_utf8(name).ok());
                sites.extend(name.and_then(|name| SiteId::parse(name).ok()));
            }
        }
    }

    /// Visits the site's first `size` records in order.
    pub(crate) fn each(
        &self,
        site: &SiteId,
        size: u64,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let prefix = prefix(site);
        let mut index = 0_u64;
        while index < size {
            let page = self.store.scan(Keyspace::Audit, &numbered(site, index), &prefix, PAGE)?;
            if page.is_empty() {
                return Err(altered(site, format!("record {index} of {size} is missing")));
            }
            for (key, bytes) in page {
                if index >= size {
                    break;
                }
                if key != numbered(site, index) {
                    return Err(altered(site, format!("record {index} is missing")));
                }
                visit(index, &bytes)?;
                index = index.saturating_add(1);
            }
        }
        Ok(())
    }

    pub(crate) fn size(&self, site: &SiteId) -> Result<u64, AuditError> {
        Ok(self.head(site)?.size)
    }

    fn head(&self, site: &SiteId) -> Result<Head, AuditError> {
        match self.store.get(Keyspace::Meta, head_key(site).as_bytes())? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| altered(site, format!("its head: {e}"))),
            None => {
                let root = Tree::default().root().map_err(|e| altered(site, e))?;
                Ok(Head { size: 0, root: hex::encode(root.0) })
            }
        }
    }

    fn load(&self, site: &SiteId) -> Result<Tree, AuditError> {
        let head = self.head(site)?;
        let mut edge = Known::default();
        for index in Tree::edge_of(head.size) {
            let bytes = self.store.get(Keyspace::AuditHash, &numbered(site, index))?;
            let hash = bytes.and_then(|bytes| <[u8; HASH_SIZE]>::try_from(bytes.as_slice()).ok());
            let hash = hash.ok_or_else(|| altered(site, format!("the hash at {index} is missing")))?;
            edge.0.insert(index, Hash(hash));
        }
        let tree = Tree::new(head.size, edge);
        if hex::encode(tree.root().map_err(|e| altered(site, e))?.0) == head.root {
            Ok(tree)
        } else {
            Err(altered(site, "its hashes do not match its head"))
        }
    }
}

impl Filter {
    fn admits(&self, record: &AuditRecord) -> bool {
        fn same<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        same(self.instance.as_ref(), record.draft.instance.as_ref())
            && same(self.connector.as_ref(), record.draft.connector.as_ref())
            && same(self.environment.as_ref(), record.draft.environment.as_ref())
            && self.event.as_ref().is_none_or(|event| event == record.event())
            && self.until.is_none_or(|until| record.at < until)
    }
}

const HEAD: &str = "audit-head/";

fn head_key(site: &SiteId) -> String {
    format!("{HEAD}{site}")
}

fn prefix(site: &SiteId) -> Vec<u8> {
    format!("{site}/").into_bytes()
}

fn numbered(site: &SiteId, index: u64) -> Vec<u8> {
    let mut key = prefix(site);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn parse(site: &SiteId, bytes: &[u8]) -> Result<AuditRecord, AuditError> {
    serde_json::from_slice(bytes).map_err(|e| altered(site, format!("a record is unreadable: {e}")))
}

fn altered(site: &SiteId, reason: impl std::fmt::Display) -> AuditError {
    AuditError::Altered { site: site.to_string(), reason: reason.to_string() }
}
