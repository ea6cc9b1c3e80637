//! Writing contacts: successive waves without duplicates, chunks of what HubSpot takes at once, and the search for the one
//! record on whose account HubSpot refuses a whole chunk.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sgen_connector_sdk::{Endpoint, Failure, FailureClass, Outcome, Request, Response, SendError, log};

use crate::answers::{ApiError, BatchAnswer, Complaint, failure_of};
use crate::record::Record;

const PATH: &str = "/crm/v3/objects/contacts/batch/upsert";
/// The most records that HubSpot takes in one call (API reference, "Batch upsert contacts").
const CHUNK: usize = 100;

/// The outcome of each event of the batch, by position; `None` until it is known.
pub(crate) type Outcomes = Vec<Option<Outcome>>;

type Chunk<'a> = Vec<&'a Record>;

/// Writes all records and enters the outcome of each.
///
/// HubSpot refuses a call that names one contact twice, so the second event of a contact goes into a second wave: in the
/// order of capture, so that the last state wins. An event whose predecessor will be sent again is held back with it, or
/// the older state would overwrite the newer one later.
pub(crate) fn upsert(endpoint: &Endpoint, records: &[Record], outcomes: &mut Outcomes) {
    let mut held: BTreeMap<&str, Failure> = BTreeMap::new();
    for wave in waves(records) {
        let mut chunks: Vec<Chunk<'_>> = Vec::new();
        for record in &wave {
            if let Some(failure) = held.get(record.email.as_str()) {
                settle(outcomes, record, Outcome::Failed(held_back(failure)));
                continue;
            }
            match chunks.last_mut() {
                Some(chunk) if chunk.len() < CHUNK => chunk.push(record),
                _ => chunks.push(vec![record]),
            }
        }
        while !chunks.is_empty() {
            chunks = send(endpoint, chunks, outcomes);
        }
        for record in wave {
            let outcome = outcomes.get(record.position).and_then(Option::as_ref);
            if let Some(failure) =
                outcome.and_then(Outcome::failure).filter(|failure| failure.class.may_be_sent_again())
            {
                held.insert(&record.email, failure.clone());
            }
        }
    }
}

/// The n-th event of every contact is in the n-th wave.
fn waves(records: &[Record]) -> Vec<Chunk<'_>> {
    let mut waves: Vec<Chunk<'_>> = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        let count = seen.entry(&record.email).or_default();
        match waves.get_mut(*count) {
            Some(wave) => wave.push(record),
            None => waves.push(vec![record]),
        }
        *count += 1;
    }
    waves
}

fn held_back(failure: &Failure) -> Failure {
    let message =
        format!("held back behind an earlier event of the same contact, which was not delivered: {}", failure.message);
    failure.clone().with_message(message)
}

/// Sends chunks concurrently; answers what is to be sent in another round.
fn send<'a>(endpoint: &Endpoint, chunks: Vec<Chunk<'a>>, outcomes: &mut Outcomes) -> Vec<Chunk<'a>> {
    #[derive(Serialize)]
    struct Inputs<'a> {
        inputs: &'a [&'a Record],
    }
    let mut sent = Vec::with_capacity(chunks.len());
    let mut requests = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match Request::post(PATH).json(&Inputs { inputs: &chunk }) {
            Ok(request) => {
                requests.push(request);
                sent.push(chunk);
            }
            Err(failure) => settle_all(outcomes, &chunk, &failure),
        }
    }
    let mut again = Vec::new();
    for (chunk, answer) in sent.into_iter().zip(endpoint.send_all(requests)) {
        again.extend(judge(chunk, answer, outcomes));
    }
    again
}

/// Reads the answer to a chunk; answers the parts that are worth sending again.
fn judge<'a>(chunk: Chunk<'a>, answer: Result<Response, SendError>, outcomes: &mut Outcomes) -> Vec<Chunk<'a>> {
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            settle_all(outcomes, &chunk, &error.into());
            return Vec::new();
        }
    };
    match failure_of(&response) {
        None => {
            read_results(&chunk, &response, outcomes);
            Vec::new()
        }
        Some(_) if matches!(response.status, 400 | 422) => split(chunk, &response, outcomes),
        Some(failure) => {
            settle_all(outcomes, &chunk, &failure);
            Vec::new()
        }
    }
}

/// Enters what a 2xx says about each record. Nothing counts as delivered that HubSpot does not name as written.
fn read_results(chunk: &[&Record], response: &Response, outcomes: &mut Outcomes) {
    let answer: BatchAnswer = match response.json() {
        Ok(answer) => answer,
        Err(failure) => return settle_all(outcomes, chunk, &failure),
    };
    let mut by_trace = BTreeMap::new();
    let mut by_email = BTreeMap::new();
    for written in &answer.results {
        if let Some(trace_id) = &written.object_write_trace_id {
            by_trace.insert(trace_id.as_str(), written);
        }
        if let Some(email) = &written.properties.email {
            by_email.insert(email.to_lowercase(), written);
        }
    }
    let mut refused: BTreeMap<&str, &ApiError> = BTreeMap::new();
    let mut unattributed = None;
    for error in &answer.errors {
        let mut named = false;
        for trace_id in error.trace_ids() {
            refused.insert(trace_id, error);
            named = true;
        }
        if !named {
            unattributed = unattributed.or(Some(error));
        }
    }
    for record in chunk {
        let trace_id = record.trace_id.as_str();
        let written = by_trace.get(trace_id).or_else(|| by_email.get(&record.email));
        let outcome = if let Some(error) = refused.get(trace_id) {
            Outcome::Failed(refusal(error, response.status))
        } else if let Some(written) = written.filter(|written| !written.id.is_empty()) {
            Outcome::delivered_as(written.id.clone())
        } else if let Some(error) = unattributed {
            Outcome::Failed(refusal(error, response.status))
        } else {
            let message =
                format!("HubSpot answered {} but did not write this contact, without a reason", response.status);
            Outcome::Failed(Failure::new(FailureClass::Rejected, message).with_status(response.status))
        };
        settle(outcomes, record, outcome);
    }
}

fn refusal(error: &ApiError, status: u16) -> Failure {
    let complaint = error.complaints().into_iter().next().unwrap_or_default();
    complaint.failure(error.category(), status)
}

/// A chunk was refused as a whole: enters the records that are certainly at fault, and answers smaller parts of the others.
///
/// Every part is smaller than the chunk, and a chunk of one is never sent again, so this ends. A single bad record that
/// HubSpot hints at costs one more round; one that it does not, a round per bisection.
fn split<'a>(chunk: Chunk<'a>, response: &Response, outcomes: &mut Outcomes) -> Vec<Chunk<'a>> {
    let error = ApiError::of(response);
    let complaints = error.complaints();
    let named: BTreeSet<&str> = error.trace_ids().collect();
    let fault = |record: &Record| -> Option<&Complaint> {
        if named.contains(record.trace_id.as_str()) {
            let fits = |complaint: &&Complaint| {
                complaint.property.as_deref().is_none_or(|property| record.has_property(property))
            };
            return complaints.iter().find(fits).or(complaints.first());
        }
        complaints.iter().find(|complaint| {
            complaint.is_about_every_value()
                && complaint.property.as_deref().is_some_and(|property| record.has_property(property))
        })
    };
    let size = chunk.len();
    let mut others = Vec::with_capacity(size);
    for record in chunk {
        let fault = fault(record).or(if size == 1 { complaints.first() } else { None });
        match fault {
            Some(complaint) => {
                let failure = complaint.failure(error.category(), response.status);
                settle(outcomes, record, Outcome::Failed(failure));
            }
            None => others.push(record),
        }
    }
    let at_fault = size - others.len();
    let parts = if others.is_empty() {
        Vec::new()
    } else if at_fault > 0 {
        vec![others]
    } else {
        parts(others, &complaints)
    };
    log::info(
        "HubSpot refused a batch as a whole",
        &[("records", &size), ("at-fault", &at_fault), ("parts", &parts.len()), ("category", &error.category())],
    );
    parts
}

/// Parts of a chunk of at least two: the records whose address a complaint quotes alone, and the rest together; without
/// such a hint two halves.
fn parts<'a>(chunk: Chunk<'a>, complaints: &[Complaint]) -> Vec<Chunk<'a>> {
    let is_quoted = |record: &Record| complaints.iter().any(|complaint| complaint.message.contains(&record.email));
    let (quoted, mut rest): (Chunk<'a>, Chunk<'a>) = chunk.into_iter().partition(|record| is_quoted(record));
    if quoted.is_empty() {
        let second = rest.split_off(rest.len() / 2);
        return vec![rest, second];
    }
    let mut parts: Vec<Chunk<'a>> = quoted.into_iter().map(|record| vec![record]).collect();
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

fn settle_all(outcomes: &mut Outcomes, chunk: &[&Record], failure: &Failure) {
    for record in chunk {
        settle(outcomes, record, Outcome::Failed(failure.clone()));
    }
}

fn settle(outcomes: &mut Outcomes, record: &Record, outcome: Outcome) {
    if let Some(place) = outcomes.get_mut(record.position) {
        *place = Some(outcome);
    }
}
