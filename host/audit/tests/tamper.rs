//! The audit log, from outside: records with their commits, queries, and every kind of tampering.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use sgen_audit::{Action, Actor, AuditError, AuditLog, Draft, FieldChange, Filter};
use sgen_model::{Clock, InstanceId, OperatorId, Scope, SiteId, Timestamp};
use sgen_store::{Commit, Keyspace, MemoryStore, Store};

struct Fixed;
impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_460_400_000)
    }
}

fn draft(instance: &str, n: u64) -> Draft {
    Draft {
        environment: None,
        actor: Actor::Operator(OperatorId::parse("ada").unwrap()),
        instance: Some(InstanceId::parse(instance).unwrap()),
        connector: None,
        catalog_version: Some("2026.11.0".to_owned()),
        component_digest: None,
        action: Action::ConfigurationChanged {
            changes: vec![FieldChange { field: "settings.n".to_owned(), prior: n.into(), new: (n + 1).into() }],
        },
    }
}

fn log_of(records: u64) -> (Arc<MemoryStore>, Arc<AuditLog>, SiteId) {
    let store = Arc::new(MemoryStore::new());
    let log = AuditLog::new(store.clone(), Arc::new(Fixed)).unwrap();
    let site = SiteId::parse("acme").unwrap();
    for n in 0..records {
        let mut commit = Commit::new();
        commit.put(Keyspace::Instance, format!("i{n}"), "change");
        log.append(&site, vec![draft(if n % 2 == 0 { "even" } else { "odd" }, n)], commit).unwrap().wait().unwrap();
    }
    (store, log, site)
}

#[test]
fn a_change_and_its_record_are_one_commit() {
    let (store, log, site) = log_of(1);
    assert!(store.get(Keyspace::Instance, b"i0").unwrap().is_some());
    assert_eq!(log.verify(&site).unwrap().records, 1);

    store.fail("no space left on device");
    let mut commit = Commit::new();
    commit.put(Keyspace::Instance, "i1", "change");
    assert!(log.append(&site, vec![draft("odd", 1)], commit).unwrap().wait().is_err());
    assert!(store.get(Keyspace::Instance, b"i1").unwrap().is_none());
    assert_eq!(log.verify(&site).unwrap().records, 1);
}

#[test]
fn records_are_found_by_instance_and_newest_first() {
    let (_, log, site) = log_of(1300);
    let filter = Filter { instance: Some(InstanceId::parse("odd").unwrap()), ..Filter::default() };
    let found = log.query(&site, &filter, None, 3).unwrap();
    assert_eq!(found.iter().map(|r| r.index).collect::<Vec<_>>(), [1299, 1297, 1295]);
    let found = log.query(&site, &filter, Some(1295), 1000).unwrap();
    assert_eq!((found.len(), found[0].index, found.last().unwrap().index), (647, 1293, 1));
    assert!(log.query(&SiteId::parse("other").unwrap(), &filter, None, 3).unwrap().is_empty());
}

#[test]
fn a_log_goes_on_after_a_restart_with_the_same_tree() {
    let (store, log, site) = log_of(21);
    let before = log.verify(&site).unwrap();
    let again = AuditLog::new(store, Arc::new(Fixed)).unwrap();
    assert_eq!(again.verify(&site).unwrap(), before);
    again.append(&site, vec![draft("odd", 21)], Commit::new()).unwrap().wait().unwrap();
    assert_eq!(again.verify(&site).unwrap().records, 22);
    let (_, whole, _) = log_of(22);
    assert_eq!(whole.verify(&site).unwrap(), again.verify(&site).unwrap());
    assert_eq!(again.sites().unwrap(), [site]);
}

#[test]
fn an_export_is_readable_without_this_program() {
    let (_, log, site) = log_of(5);
    let mut out = Vec::new();
    assert_eq!(log.export(&site, &mut out).unwrap(), 5);
    let lines: Vec<serde_json::Value> =
        out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[4]["actor"]["id"], "ada");
    assert_eq!(lines[4]["action"]["changes"][0]["new"], 5);
    assert_eq!(lines[5]["head"]["records"], 5);
}

#[test]
fn every_change_to_a_record_a_hash_or_the_head_is_found() {
    let (store, _, site) = log_of(9);
    for keyspace in [Keyspace::Audit, Keyspace::AuditHash, Keyspace::Meta] {
        for (key, value) in store.scan(keyspace, b"", b"", 1000).unwrap() {
            for position in [0, value.len() / 2, value.len() - 1] {
                let mut changed = value.clone();
                changed[position] ^= 1;
                let mut commit = Commit::new();
                commit.put(keyspace, key.clone(), changed);
                store.submit(commit).wait().unwrap();
                let log = AuditLog::new(store.clone(), Arc::new(Fixed)).unwrap();
                assert!(matches!(log.verify(&site), Err(AuditError::Altered { .. })), "{keyspace:?} at {position}");
            }
            let mut commit = Commit::new();
            commit.delete(keyspace, key.clone());
            store.submit(commit).wait().unwrap();
            if keyspace != Keyspace::Meta {
                let log = AuditLog::new(store.clone(), Arc::new(Fixed)).unwrap();
                assert!(log.verify(&site).is_err(), "{keyspace:?} deleted");
            }
            let mut commit = Commit::new();
            commit.put(keyspace, key, value);
            store.submit(commit).wait().unwrap();
        }
    }
    AuditLog::new(store, Arc::new(Fixed)).unwrap().verify(&site).unwrap();
}

#[test]
fn a_scope_is_recorded_as_the_operator_wrote_it() {
    let (_, log, site) = log_of(0);
    let mut record = draft("even", 0);
    record.action = Action::ConnectorConfigured {
        connector_type: "crm".to_owned(),
        scope: Scope::parse(&["form:contact"]).unwrap(),
        enabled: true,
    };
    log.append(&site, vec![record], Commit::new()).unwrap().wait().unwrap();
    let found =
        log.query(&site, &Filter { event: Some("connector-configured".to_owned()), ..Filter::default() }, None, 9);
    let json = serde_json::to_value(&found.unwrap()[0]).unwrap();
    assert_eq!(json["action"]["scope"], serde_json::json!(["form:contact"]));
    assert_eq!(json["action"]["enabled"], true);
}
