//! Where delivery's records are in the store. Numbers are big-endian, so that keys sort by them.

use sgen_model::{Environment, EventId, InstanceId, Place, Sequence, SiteId, Timestamp};
use sgen_store::{Keyspace, Store, StoreError};

pub(crate) fn place_prefix(place: &Place) -> Vec<u8> {
    format!("{place}/").into_bytes()
}

pub(crate) fn log(place: &Place, sequence: Sequence) -> Vec<u8> {
    numbered(place_prefix(place), &[sequence.0])
}

/// Up to which position the log of a place has been trimmed.
pub(crate) fn trimmed(place: &Place) -> Vec<u8> {
    format!("trimmed/{place}").into_bytes()
}

pub(crate) fn log_index(place: &Place, event: &EventId) -> Vec<u8> {
    format!("{place}/{event}").into_bytes()
}

/// Every place that has a log.
pub(crate) fn logged_places(store: &dyn Store) -> Result<Vec<Place>, StoreError> {
    let mut places = Vec::new();
    let mut from = Vec::new();
    loop {
        let first = store.scan(Keyspace::Log, &from, b"", 1)?;
        let Some((key, _)) = first.first() else { return Ok(places) };
        let prefix = key.get(..key.len().saturating_sub(8)).unwrap_or_default();
        let text = String::from_utf8_lossy(prefix).into_owned();
        let mut parts = text.split('/');
        if let (Some(site), Some(environment)) = (parts.next(), parts.next())
            && let (Ok(site), Ok(environment)) = (SiteId::parse(site), Environment::parse(environment))
        {
            places.push(Place::new(site, environment));
        }
        // After everything that begins with this prefix, whose last byte is the slash.
        from = prefix.to_vec();
        if let Some(last) = from.last_mut() {
            *last = last.saturating_add(1);
        }
    }
}

/// The number at the end of a key.
pub(crate) fn number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(crate) fn instance(id: &InstanceId) -> Vec<u8> {
    id.as_str().as_bytes().to_vec()
}

pub(crate) fn instance_prefix(id: &InstanceId) -> Vec<u8> {
    format!("{id}/").into_bytes()
}

pub(crate) fn dead(id: &InstanceId, sequence: Sequence) -> Vec<u8> {
    numbered(instance_prefix(id), &[sequence.0])
}

pub(crate) fn journal(id: &InstanceId, at: Timestamp, count: u64) -> Vec<u8> {
    numbered(instance_prefix(id), &[at.0, count])
}

pub(crate) fn surfaced(id: &InstanceId, cause: &str) -> Vec<u8> {
    let mut key = instance_prefix(id);
    key.extend_from_slice(cause.as_bytes());
    key
}

/// The retry record of an event: `…/s/SEQUENCE`.
pub(crate) fn retry(id: &InstanceId, sequence: Sequence) -> Vec<u8> {
    numbered(retry_prefix(id), &[sequence.0])
}

pub(crate) fn retry_prefix(id: &InstanceId) -> Vec<u8> {
    format!("{id}/s/").into_bytes()
}

/// The place of an event in the order in which retries fall due: `…/d/TIME SEQUENCE`.
pub(crate) fn due(id: &InstanceId, at: Timestamp, sequence: Sequence) -> Vec<u8> {
    numbered(due_prefix(id), &[at.0, sequence.0])
}

pub(crate) fn due_prefix(id: &InstanceId) -> Vec<u8> {
    format!("{id}/d/").into_bytes()
}

/// The mark of a retry record that is kept in order by a key: `…/k/SEQUENCE`.
pub(crate) fn ordered(id: &InstanceId, sequence: Sequence) -> Vec<u8> {
    numbered(ordered_prefix(id), &[sequence.0])
}

pub(crate) fn ordered_prefix(id: &InstanceId) -> Vec<u8> {
    format!("{id}/k/").into_bytes()
}

/// The mark of a dead letter that the operator discarded: `…/x/SEQUENCE`.
pub(crate) fn discarded(id: &InstanceId, sequence: Sequence) -> Vec<u8> {
    numbered(format!("{id}/x/").into_bytes(), &[sequence.0])
}

/// The time in a due key.
pub(crate) fn due_time(key: &[u8]) -> Option<Timestamp> {
    let (time, _) = key.last_chunk::<16>()?.split_first_chunk::<8>()?;
    Some(Timestamp(u64::from_be_bytes(*time)))
}

fn numbered(mut key: Vec<u8>, numbers: &[u64]) -> Vec<u8> {
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}
