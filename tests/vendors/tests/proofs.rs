//! The proofs at a size for the test suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use sgen_vendors::{oauth, service_account, sigv4};

#[tokio::test(flavor = "multi_thread")]
async fn a_rotating_grant_is_not_lost_under_load_and_over_restarts() {
    let plan = oauth::Plan { concurrent: 20, expiries: 6, lifetime: Duration::from_secs(2) };
    let figures = oauth::run(&plan).await.unwrap();
    assert!(figures.holds(), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_accepts_what_is_signed_and_refuses_another_secret() {
    let figures = sigv4::run().await.unwrap();
    assert!(figures.holds(), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_libraries_accept_the_assertions_and_refuse_forged_ones() {
    let figures = service_account::run(10).await.unwrap();
    assert!(figures.holds(), "{figures}");
}
