//! One request to one downstream on loopback, and what became of it at the seams and on the other side.

use std::net::SocketAddr;
use std::sync::Arc;

use sgen_egress::{EndpointSpec, Request, Response, SendError};

use crate::kit::{Downstream, Seen, credentials, instance, open_spec, opened};
use crate::lab::{Lab, Watch, Zone};
use crate::tally::Outcome;

/// What came of a request.
pub(crate) struct Exchange {
    pub(crate) answer: Result<Response, SendError>,
    /// Dials to anything but the downstream.
    pub(crate) beyond: usize,
    /// Dials to the downstream.
    pub(crate) dials: usize,
}

/// Grants one endpoint to `address`, changed as the vector wants it, and sends one request with `secret` in its slot.
pub(crate) async fn send(
    lab: &Lab,
    address: SocketAddr,
    change: impl FnOnce(&mut EndpointSpec),
    secret: Option<&str>,
    request: Request,
) -> Exchange {
    let watch: Arc<Watch> = Watch::new(lab.world);
    let gate = lab.gate(&[address.to_string()], Zone::of(&[]), watch.clone());
    let mut spec = open_spec(&format!("http://{address}"), None);
    change(&mut spec);
    let given: Vec<(&str, &str)> = secret.map(|secret| ("token", secret)).into_iter().collect();
    let grant = gate.grant(&instance("vector"), vec![spec], credentials(&given)).unwrap();
    let answer = opened(&grant).send(request).await;
    let beyond = watch.beyond(&[address]);
    Exchange { answer, beyond, dials: watch.dialled().len() - beyond }
}

impl Exchange {
    /// The outcome of a request that nothing may have been sent for, unless it passed.
    pub(crate) fn before_the_wire(self, downstream: &Downstream) -> Outcome {
        // Two witnesses: what was dialled, and what arrived.
        let made = self.dials.max(downstream.seen().len());
        match self.answer {
            Ok(response) => Outcome { said: Ok(response.status.to_string()), forbidden: self.beyond, opened: made },
            Err(error) => Outcome { said: Err(error.message), forbidden: self.beyond + made, opened: 0 },
        }
    }

    /// The outcome of a request that was sent, and whose answer was judged.
    pub(crate) fn after_the_wire(self, describe: impl FnOnce(Response) -> String) -> Outcome {
        let said = self.answer.map(describe).map_err(|error| error.message);
        Outcome { said, forbidden: self.beyond, opened: 0 }
    }

    /// The outcome of a request that passed: described by what the downstream saw of it.
    pub(crate) fn seen_by(self, downstream: &Downstream, describe: impl FnOnce(&Seen) -> String) -> Outcome {
        let said = match (self.answer, downstream.seen().as_slice()) {
            (Ok(_), [only]) => Ok(describe(only)),
            (Ok(_), seen) => Err(format!("the downstream saw {} requests", seen.len())),
            (Err(error), _) => Err(error.message),
        };
        Outcome { said, forbidden: self.beyond, opened: self.dials }
    }
}
