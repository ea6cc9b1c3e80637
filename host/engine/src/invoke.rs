//! One invocation: a fresh instance, one call, gone.

use std::sync::Arc;
use std::time::Duration;

use sgen_egress::Grant;
use sgen_model::{Choice, DownstreamAccount, Failure, FailureClass, Finding, Outcome, Verdict};
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::exports::sgen::connector::{choices, delivery, health};
use crate::bindings::sgen::connector::failures;
use crate::component::Component;
use crate::error::{Fault, FaultKind, classify};
pub use crate::host::Held;
use crate::host::State;
pub use crate::lines::Line;

/// One mapped event, as a component sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The capture's id.
    pub id: String,
    /// Stable for this event and connector instance.
    pub idempotency_key: String,
    /// Milliseconds since the epoch.
    pub captured_at_ms: u64,
    /// `form:contact`.
    pub surface: String,
    /// The mapped fields, a JSON object.
    pub fields: String,
}

/// What an invocation answered, and what the connector logged meanwhile.
#[derive(Debug)]
pub struct Invocation<T> {
    /// The answer, or what ended the invocation.
    pub result: Result<T, Fault>,
    /// The connector's log.
    pub log: Vec<Line>,
    /// What keeping to the vendor's rate cost it.
    pub held: Held,
}

/// A component with the grant of one connector instance: what can be invoked.
#[derive(Clone)]
pub struct Invoker {
    component: Component,
    grant: Arc<Grant>,
}

impl Invoker {
    /// Joins a component with a grant.
    #[must_use]
    pub fn new(component: Component, grant: Arc<Grant>) -> Self {
        Self { component, grant }
    }

    /// How long the vendor's rate would hold back a request that came now, at least. An invocation that begins before that
    /// does nothing but wait.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.grant.delay()
    }

    /// Makes an instance and drops it: what every invocation costs before it does anything.
    pub async fn instantiate(&self) -> Invocation<()> {
        self.invoke(async |store| {
            self.component.linked.instantiate_async(&mut *store).await.map(drop).map_err(Call::Instantiate)
        })
        .await
    }

    /// Delivers a batch; one outcome per event, in order.
    pub async fn deliver(&self, settings: &str, batch: &[Event]) -> Invocation<Vec<Outcome>> {
        let limit = self.component.engine.limits.answer_bytes;
        self.invoke(async |store| {
            let instance = self.component.linked.instantiate_async(&mut *store).await.map_err(Call::Instantiate)?;
            let guest = self.component.delivery.load(&mut *store, &instance).map_err(Call::Instantiate)?;
            let events: Vec<_> = batch.iter().map(event).collect();
            let outcomes = guest.call_deliver(store, settings, &events).await.map_err(Call::Trap)?;
            if outcomes.len() != batch.len() {
                return Err(Call::Answer(format!(
                    "the connector answered {} outcomes for {} events",
                    outcomes.len(),
                    batch.len()
                )));
            }
            if outcomes.iter().map(outcome_size).sum::<usize>() > limit {
                return Err(Call::Answer(format!("the connector's outcomes exceed {limit} bytes")));
            }
            Ok(outcomes.into_iter().map(outcome).collect())
        })
        .await
    }

    /// Asks for a health verdict.
    pub async fn check(&self, settings: &str) -> Invocation<Verdict> {
        self.invoke(async |store| {
            let instance = self.component.linked.instantiate_async(&mut *store).await.map_err(Call::Instantiate)?;
            let guest = self.component.health.load(&mut *store, &instance).map_err(Call::Instantiate)?;
            let verdict = guest.call_check(store, settings).await.map_err(Call::Trap)?;
            // `bounded` cuts and cleans the summary as it does a failure's message.
            let summary = Failure::new(FailureClass::Rejected, verdict.summary).message;
            Ok(Verdict {
                reachable: finding(verdict.reachable),
                authorised: finding(verdict.authorised),
                permitted: finding(verdict.permitted),
                target_exists: finding(verdict.target_exists),
                summary,
                failure: verdict.failure.map(failure),
            })
        })
        .await
    }

    /// Asks for the live choices of a source.
    pub async fn options(
        &self,
        settings: &str,
        source: &str,
        search: Option<&str>,
    ) -> Invocation<Result<Vec<Choice>, Failure>> {
        let limits = &self.component.engine.limits;
        self.invoke(async |store| {
            let instance = self.component.linked.instantiate_async(&mut *store).await.map_err(Call::Instantiate)?;
            let guest = self.component.choices.load(&mut *store, &instance).map_err(Call::Instantiate)?;
            let answer = guest.call_options(store, settings, source, search).await.map_err(Call::Trap)?;
            let found: Vec<choices::Choice> = match answer {
                Ok(found) => found,
                Err(error) => return Ok(Err(failure(error))),
            };
            let bytes: usize = found.iter().map(|c| c.value.len().saturating_add(c.label.len())).sum();
            if found.len() > limits.choices || bytes > limits.answer_bytes {
                return Err(Call::Answer(format!("the connector answered {} choices in {bytes} bytes", found.len())));
            }
            Ok(Ok(found.into_iter().map(|c| Choice { value: c.value, label: c.label }).collect()))
        })
        .await
    }

    /// Asks which downstream account the credential belongs to; `None` when the component cannot tell.
    pub async fn account(&self, settings: &str) -> Option<Invocation<Result<DownstreamAccount, Failure>>> {
        let identity = self.component.identity.as_ref()?;
        let invocation = self
            .invoke(async |store| {
                let instance = self.component.linked.instantiate_async(&mut *store).await.map_err(Call::Instantiate)?;
                let guest = identity.load(&mut *store, &instance).map_err(Call::Instantiate)?;
                let answer = guest.call_account_of_credential(store, settings).await.map_err(Call::Trap)?;
                Ok(match answer {
                    Ok(account) => Ok(DownstreamAccount {
                        id: Failure::new(FailureClass::Rejected, account.id).message,
                        label: Failure::new(FailureClass::Rejected, account.label).message,
                        sandbox: account.sandbox,
                    }),
                    Err(error) => Err(failure(error)),
                })
            })
            .await;
        Some(invocation)
    }

    /// Runs one call in a fresh store under every cap.
    async fn invoke<T>(&self, call: impl AsyncFnOnce(&mut Store<State>) -> Result<T, Call>) -> Invocation<T> {
        let engine = &self.component.engine;
        let Ok(_slot) = engine.slots.acquire().await else {
            return Invocation {
                result: Err(Fault::new(FaultKind::Instantiate, "the engine is closed")),
                log: Vec::new(),
                held: Held::default(),
            };
        };
        let mut store = Store::new(&engine.engine, State::new(&engine.limits, self.grant.clone()));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(engine.limits.call_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            // Yields after every tick, so that a busy guest does not hold a thread from its neighbours.
            Ok(if context.data_mut().charge_tick() {
                UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
            } else {
                UpdateDeadline::Interrupt
            })
        });
        // Epochs do not fire inside host calls, so there is an outer deadline.
        let result = engine.deadlines.enforce(engine.limits.wall, call(&mut store)).await;
        let held = store.data().held;
        let lines = std::mem::replace(&mut store.data_mut().lines, crate::lines::Lines::new(0, 0));
        let result = match result {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Call::Answer(message))) => Err(Fault::new(FaultKind::Answer, message)),
            Some(Err(Call::Trap(error))) => Err(classify(&error, lines.last_error())),
            Some(Err(Call::Instantiate(error))) => {
                let fault = classify(&error, lines.last_error());
                let kind = if fault.kind == FaultKind::Trap { FaultKind::Instantiate } else { fault.kind };
                Err(Fault::new(kind, format!("no instance: {}", fault.message)))
            }
            None => Err(Fault::new(
                FaultKind::Wall,
                format!("the connector did not answer within {} s", engine.limits.wall.as_secs_f32()),
            )),
        };
        Invocation { result, log: lines.finish(), held }
    }
}

/// Why a call has no answer.
enum Call {
    Instantiate(wasmtime::Error),
    Trap(wasmtime::Error),
    Answer(String),
}

fn event(event: &Event) -> delivery::Event<'_> {
    delivery::Event {
        id: &event.id,
        idempotency_key: &event.idempotency_key,
        captured_at_ms: event.captured_at_ms,
        surface: &event.surface,
        fields: &event.fields,
    }
}

fn outcome(outcome: delivery::Outcome) -> Outcome {
    match outcome {
        delivery::Outcome::Delivered(id) => {
            // The downstream's id is shown and stored: bounded as a code is.
            Outcome::Delivered(id.map(|id| Failure::new(FailureClass::Rejected, id).message))
        }
        delivery::Outcome::Failed(error) => Outcome::Failed(failure(error)),
    }
}

fn outcome_size(outcome: &delivery::Outcome) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    match outcome {
        delivery::Outcome::Delivered(id) => length(id),
        delivery::Outcome::Failed(f) => {
            f.message.len().saturating_add(length(&f.code)).saturating_add(length(&f.field))
        }
    }
}

fn failure(failure: failures::Failure) -> Failure {
    use failures::FailureClass as Wit;
    let class = match failure.class {
        Wit::AuthRevoked => FailureClass::AuthRevoked,
        Wit::PermissionDenied => FailureClass::PermissionDenied,
        Wit::RateLimited => FailureClass::RateLimited,
        Wit::Unavailable => FailureClass::Unavailable,
        Wit::SchemaMismatch => FailureClass::SchemaMismatch,
        Wit::Rejected => FailureClass::Rejected,
        Wit::TooLarge => FailureClass::TooLarge,
        Wit::Gone => FailureClass::Gone,
        Wit::ConnectorFault => FailureClass::ConnectorFault,
        Wit::EgressDenied => FailureClass::EgressDenied,
    };
    Failure {
        class,
        status: failure.status,
        code: failure.code,
        message: failure.message,
        field: failure.field,
        retry_after_ms: failure.retry_after_ms,
    }
    .bounded()
}

fn finding(finding: health::Finding) -> Finding {
    match finding {
        health::Finding::Yes => Finding::Yes,
        health::Finding::No => Finding::No,
        health::Finding::Unverifiable => Finding::Unverifiable,
    }
}
