//! Waiting for an observed state with a bound, in place of sleeping and hoping.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a state is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks until `probe` answers `Ok(Some(value))` and hands the value out; `Ok(None)` means "not yet".
///
/// # Errors
/// What `probe` failed with, at once; or, after `bound`, a sentence with `what` was waited for.
pub async fn eventually<T, F, Fut>(what: impl Display, bound: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        if start.elapsed() >= bound {
            return Err(anyhow!("{what} did not happen within {} s", bound.as_secs_f32()));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The same for a state that is read without asking anyone.
///
/// # Errors
/// After `bound`, a sentence with `what` was waited for.
pub async fn until(what: impl Display, bound: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    eventually(what, bound, || {
        let state = holds().then_some(());
        std::future::ready(Ok(state))
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_state_that_never_comes_is_named_with_its_bound() {
        let error = until("the moon", Duration::from_millis(30), || false).await.unwrap_err();
        assert_eq!(error.to_string(), "the moon did not happen within 0.03 s");
    }

    #[tokio::test]
    async fn a_state_that_comes_is_handed_out() {
        let mut left = 3;
        let value = eventually("zero", Duration::from_secs(5), || {
            left -= 1;
            let now = left;
            async move { Ok((now == 0).then_some("there")) }
        })
        .await;
        assert_eq!(value.unwrap(), "there");
    }
}
