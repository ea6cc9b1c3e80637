//! One slot's tokens: who asks gets the one in force, or waits for the renewal that is under way.
//!
//! A renewal runs on a task of its own and one at a time: whoever waits for it may be given up, and a rotating refresh token
//! must not be lost with them.

mod change;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sgen_audit::{Action, Actor, Draft};
use sgen_egress::{AccessToken, LiveScrubber, SendError, SendErrorKind, TokenSource};
use sgen_model::Timestamp;
use sgen_store::Commit;
use zeroize::Zeroizing;

use crate::answer::Refusal;
use crate::client::Client;
use crate::error::TokenError;
use crate::exchange::Exchange;
use crate::forms::JWT_BEARER;
use crate::policy::{self, Life, REFUSED_WAIT, SECOND_REFUSAL, State};
use crate::record::Granted;
use crate::setup::{Facts, Means, Setup};
use crate::sources::Rooms;

pub use change::{Change, Connected, Upstream};

/// The tokens of one credential slot of one connector instance.
pub struct Source {
    me: Weak<Self>,
    rooms: Rooms,
    exchange: RwLock<Arc<Exchange>>,
    held: RwLock<Option<Held>>,
    /// Held by the one renewal, or change of the grant, that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
    pause: Mutex<Option<Pause>>,
    failures: AtomicU32,
    serial: AtomicU64,
    scrubber: LiveScrubber,
}

/// The token in force.
#[derive(Clone)]
struct Held {
    token: Arc<AccessToken>,
    life: Life,
    /// It was obtained because the downstream refused the one before.
    after_refusal: bool,
}

/// Nobody is asked until then, and whoever asks is told this.
struct Pause {
    until: Timestamp,
    error: SendError,
}

/// Why a renewal failed, and how long the vendor asked to be left alone.
struct Failure {
    error: TokenError,
    wait: Option<Duration>,
}

impl<E: Into<TokenError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), wait: None }
    }
}

impl Source {
    pub(crate) fn new(rooms: Rooms, setup: Setup) -> Arc<Self> {
        let exchange = Arc::new(Exchange::new(&rooms.gate, setup));
        let source = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            rooms,
            exchange: RwLock::new(exchange),
            held: RwLock::default(),
            turn: Arc::default(),
            pause: Mutex::default(),
            failures: AtomicU32::new(0),
            serial: AtomicU64::new(0),
            scrubber: LiveScrubber::default(),
        });
        source.keep_client();
        source
    }

    /// Another setup is in force from now on.
    pub(crate) fn set_up(&self, setup: Setup) {
        let exchange = Arc::new(Exchange::new(&self.rooms.gate, setup));
        let former = {
            let mut current = self.exchange.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::clone(&exchange))
        };
        let (former, setup) = (&former.setup, &exchange.setup);
        let same = former.version == setup.version && former.token == setup.token && former.scopes == setup.scopes;
        // What somebody consented to goes on; what the host obtains by itself is obtained anew.
        if !same && !matches!(setup.means, Means::Grant(_)) {
            self.hold_now(None);
        }
        self.keep_client();
        self.resume();
    }

    fn keep_client(&self) {
        let exchange = self.exchange();
        let secret = exchange.client().and_then(Client::secret);
        let secret = secret.map(|secret| Zeroizing::new(secret.as_bytes().to_vec()));
        if let Err(error) = self.scrubber.keep(secret.into_iter().collect()) {
            tracing::error!(%error, "a client's secret cannot be looked for in answers");
        }
    }

    fn exchange(&self) -> Arc<Exchange> {
        Arc::clone(&self.exchange.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn held(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold_now(&self, held: Option<Held>) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
    }

    fn resume(&self) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.failures.store(0, Ordering::Relaxed);
    }

    fn fresh(&self) -> Option<Arc<AccessToken>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref().filter(|held| held.life.state(self.rooms.clock.now()) == State::Fresh)?;
        Some(Arc::clone(&held.token))
    }

    /// A token to use; nothing when the one that was refused counts as refused for good.
    async fn renew(&self, refused: Option<u64>) -> Result<Option<Arc<AccessToken>>, SendError> {
        let _turn = self.turn.lock().await;
        let now = self.rooms.clock.now();
        let held = self.held();
        if let Some(held) = &held {
            match refused {
                None if held.life.state(now) == State::Fresh => return Ok(Some(Arc::clone(&held.token))),
                // Another request has met the refusal before.
                Some(serial) if serial != held.token.serial() => return Ok(Some(Arc::clone(&held.token))),
                Some(_) if held.after_refusal && now.since(held.life.from) < SECOND_REFUSAL => return Ok(None),
                _ => {}
            }
        }
        let error = match self.paused(now) {
            Some(error) => error,
            None => match self.obtain(refused.is_some()).await {
                Ok(held) => {
                    self.resume();
                    self.hold_now(Some(held.clone()));
                    return Ok(Some(held.token));
                }
                Err(failure) => self.pause(failure),
            },
        };
        match held {
            Some(held) if refused.is_none() && held.life.state(self.rooms.clock.now()) != State::Expired => {
                tracing::warn!(instance = %self.exchange().setup.facts.instance, error = %error.message,
                    "an access token is not renewed ahead of its expiry; the one in force goes on");
                Ok(Some(held.token))
            }
            _ => Err(error),
        }
    }

    fn paused(&self, now: Timestamp) -> Option<SendError> {
        let pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.as_ref().filter(|pause| now < pause.until).map(|pause| pause.error.clone())
    }

    fn pause(&self, failure: Failure) -> SendError {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let refused = matches!(failure.error, TokenError::Refused(_) | TokenError::Record { .. });
        let kind = if refused { SendErrorKind::Credential } else { SendErrorKind::Connect };
        let wait = if refused { REFUSED_WAIT } else { policy::wait(failures, failure.wait) };
        let message = match &failure.error {
            TokenError::Refused(_) | TokenError::Unavailable(_) | TokenError::Record { .. } => {
                failure.error.to_string()
            }
            // The text of an inner failure is the platform's.
            other => {
                tracing::error!(error = %other, "an access token cannot be obtained");
                "no access token: the platform cannot keep one now; it is tried again".to_owned()
            }
        };
        let error = SendError::new(kind, self.scrubber.text(message));
        let until = self.rooms.clock.now().after(wait);
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Some(Pause { until, error: error.clone() });
        error
    }

    async fn obtain(&self, after_refusal: bool) -> Result<Held, Failure> {
        let exchange = self.exchange();
        let (slot, scopes) = (&exchange.setup.facts.slot, exchange.scopes());
        let asked_at = self.rooms.clock.now();
        let obtained = match &exchange.setup.means {
            Means::Unusable(reason) => return Err(TokenError::Refused(reason.clone()).into()),
            Means::Grant(_) => return self.renew_grant(&exchange, after_refusal).await,
            Means::ClientCredentials(_) => exchange.ask(&scopes, &[("grant_type", "client_credentials")]).await,
            Means::ServiceAccount { account, audience } => {
                let assertion = account
                    .assertion(audience, &scopes, asked_at)
                    .map_err(|reason| TokenError::Refused(format!("the credential {slot} cannot be used: {reason}")))?;
                self.learn([assertion.as_bytes()])?;
                // The assertion itself names the scopes.
                exchange.ask("", &[("grant_type", JWT_BEARER), ("assertion", &assertion)]).await
            }
        };
        let obtained = obtained.map_err(|refusal| {
            explained(refusal, &format!("the vendor refuses the credential {slot}"), "the operator must give it again")
        })?;
        self.learn([obtained.access.as_bytes()])?;
        let life = Life { from: asked_at, until: obtained.lifetime.map(|lifetime| asked_at.after(lifetime)) };
        self.hold(&obtained.access, life, after_refusal)
    }

    /// Uses the token that is kept while it counts, and otherwise renews the grant.
    async fn renew_grant(&self, exchange: &Exchange, after_refusal: bool) -> Result<Held, Failure> {
        let facts = &exchange.setup.facts;
        let slot = &facts.slot;
        let Some((mut version, mut granted)) = self.read(facts)? else {
            return Err(TokenError::Refused(format!(
                "nobody has consented to the grant {slot} yet: the operator must authorise it"
            ))
            .into());
        };
        self.learn_grant(&granted)?;
        let state = granted.life.state(self.rooms.clock.now());
        // Once per start of the host, or change: from then on it is the token in force.
        if !after_refusal && state == State::Fresh {
            return self.hold(&granted.access, granted.life, false);
        }
        let Some(refresh) = granted.refresh.as_ref().map(|it| Zeroizing::new(it.to_string())) else {
            if !after_refusal && state == State::Due {
                return self.hold(&granted.access, granted.life, false);
            }
            return Err(TokenError::Refused(format!(
                "the access token of the grant {slot} counts no longer and the vendor gave nothing to renew it with: the \
                 operator must authorise it again"
            ))
            .into());
        };
        let asked_at = self.rooms.clock.now();
        let unresolved = granted.intent;
        if unresolved.is_none() {
            granted.intent = Some(asked_at);
            self.write(facts, &mut version, &granted, None).await?;
        }
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        match exchange.ask("", &pairs).await {
            Ok(obtained) => {
                let consent = granted.consent;
                let renewed = Granted::new(obtained, asked_at, consent, Some(granted));
                self.learn_grant(&renewed)?;
                let action = Action::CredentialsRefreshed {
                    slot: slot.clone(),
                    version: consent,
                    renewal: renewed.renewals,
                    fingerprint: self.rooms.vault.secret_fingerprint(renewed.essence().as_bytes()),
                };
                self.write(facts, &mut version, &renewed, Some(action)).await?;
                self.hold(&renewed.access, renewed.life, after_refusal)
            }
            Err(refusal) => {
                let unknown = matches!(refusal, Refusal::Unavailable { unknown: true, .. });
                if unresolved.is_none() && !unknown {
                    granted.intent = None;
                    self.write(facts, &mut version, &granted, None).await?;
                }
                let why = match unresolved {
                    None => format!("the vendor has revoked the grant {slot}"),
                    Some(since) => format!(
                        "a renewal of the grant {slot} that was begun at {since} never came to its end (the host was stopped, \
                         or the connection broke), and the vendor refuses the former refresh token: it had rotated it, and \
                         the new one was lost"
                    ),
                };
                Err(explained(refusal, &why, "the operator must authorise it again"))
            }
        }
    }

    fn read(&self, facts: &Facts) -> Result<Option<(u64, Granted)>, TokenError> {
        let Some(kept) = self.rooms.vault.grant(&facts.place, &facts.instance, &facts.slot)? else {
            return Ok(None);
        };
        let granted = Granted::decode(&kept.granted)
            .map_err(|reason| TokenError::Record { slot: facts.slot.to_string(), reason })?;
        Ok(Some((kept.version, granted)))
    }

    /// Writes a grant, with the record of what was done when there is one.
    async fn write(
        &self,
        facts: &Facts,
        version: &mut u64,
        granted: &Granted,
        action: Option<Action>,
    ) -> Result<(), TokenError> {
        *version = version.saturating_add(1);
        let mut commit = Commit::new();
        self.seal(facts, *version, granted, &mut commit)?;
        match action {
            None => self.rooms.store.submit(commit).await?,
            Some(action) => {
                let draft = Draft {
                    environment: Some(facts.place.environment.clone()),
                    actor: Actor::Platform,
                    instance: Some(facts.instance.clone()),
                    connector: Some(facts.connector.clone()),
                    catalog_version: Some(facts.catalog_version.clone()),
                    component_digest: Some(facts.component_digest.clone()),
                    action,
                };
                self.rooms.audit.append(&facts.place.site, vec![draft], commit)?.await?;
            }
        }
        Ok(())
    }

    fn seal(&self, facts: &Facts, version: u64, granted: &Granted, commit: &mut Commit) -> Result<(), TokenError> {
        let bytes = granted.encode().map_err(|reason| TokenError::Record { slot: facts.slot.to_string(), reason })?;
        let Facts { place, instance, slot, .. } = facts;
        Ok(self.rooms.vault.seal_grant(place, instance, slot, version, &bytes, commit)?)
    }

    fn hold(&self, access: &str, life: Life, after_refusal: bool) -> Result<Held, Failure> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let token = AccessToken::new(access.as_bytes(), serial)
            .map_err(|reason| TokenError::Unavailable(format!("the vendor's access token cannot be used: {reason}")))?;
        Ok(Held { token: Arc::new(token), life, after_refusal })
    }

    fn learn_grant(&self, granted: &Granted) -> Result<(), TokenError> {
        let refresh = granted.refresh.as_ref().map(|refresh| refresh.as_bytes());
        self.learn([Some(granted.access.as_bytes()), refresh].into_iter().flatten())
    }

    /// Before anything is used, it is looked for in answers.
    fn learn<'a>(&self, secrets: impl IntoIterator<Item = &'a [u8]>) -> Result<(), TokenError> {
        let secrets = secrets.into_iter().map(|secret| Zeroizing::new(secret.to_vec())).collect();
        self.scrubber.learn(secrets).map_err(|error| TokenError::Unavailable(error.to_string()))
    }

    async fn on_a_task(&self, refused: Option<u64>) -> Result<Option<Arc<AccessToken>>, SendError> {
        let stopping = || SendError::new(SendErrorKind::Connect, TokenError::Stopping.to_string());
        let source = self.me.upgrade().ok_or_else(stopping)?;
        tokio::spawn(async move { source.renew(refused).await }).await.map_err(|_| stopping())?
    }
}

impl TokenSource for Source {
    fn token(&self) -> BoxFuture<'_, Result<Arc<AccessToken>, SendError>> {
        Box::pin(async {
            if let Some(token) = self.fresh() {
                return Ok(token);
            }
            let none = || SendError::new(SendErrorKind::Credential, "there is no access token");
            self.on_a_task(None).await?.ok_or_else(none)
        })
    }

    fn refused(&self, token: Arc<AccessToken>) -> BoxFuture<'_, Result<Option<Arc<AccessToken>>, SendError>> {
        Box::pin(async move { self.on_a_task(Some(token.serial())).await })
    }

    fn scrubber(&self) -> &LiveScrubber {
        &self.scrubber
    }
}

/// What a refusal means for whoever needed a token. `why` and `what` are for one that is final.
fn explained(refusal: Refusal, why: &str, what: &str) -> Failure {
    match refusal {
        Refusal::Revoked(said) => TokenError::Refused(format!("{why} ({said}): {what}")).into(),
        Refusal::Misconfigured(said) => TokenError::Refused(format!(
            "the vendor refuses the client, or what it asks for ({said}): the operator must correct the credential"
        ))
        .into(),
        Refusal::Unavailable { said, wait, .. } => {
            let error = TokenError::Unavailable(format!("no access token: {said}; it is tried again"));
            Failure { error, wait }
        }
    }
}
