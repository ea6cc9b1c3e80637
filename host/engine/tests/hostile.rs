//! Hostile components: each is ended within its cap, with a readable fault, and its neighbour does not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod kit;

use std::time::Duration;

use kit::{Downstream, engine, events, grant, guest, invoker, load};
use sgen_engine::{EngineError, FaultKind, Invoker, Limits};
use sgen_model::{FailureClass, Outcome};

/// Short enough for tests; long enough for a machine that does other things too.
fn limits() -> Limits {
    Limits { cpu: Duration::from_millis(200), wall: Duration::from_secs(20), ..Limits::default() }
}

async fn fault_of(name: &str, count: usize) -> (FaultKind, String) {
    let engine = engine(limits());
    let invocation = invoker(&engine, name).deliver(r#"{"url":"https://x.example"}"#, &events(count)).await;
    let fault = invocation.result.expect_err(name);
    assert_eq!(fault.failure().class, FailureClass::ConnectorFault);
    (fault.kind, fault.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_uses_up_its_cpu_time() {
    assert_eq!(fault_of("endless-loop", 1).await, (FaultKind::Cpu, "the connector used up its CPU time".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_recursion_overflows_its_own_stack_only() {
    assert_eq!(fault_of("deep-recursion", 1).await.0, FaultKind::Stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_beyond_the_cap_is_refused() {
    let (kind, message) = fault_of("memory-growth", 1).await;
    assert_eq!(kind, FaultKind::Memory, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_reaches_the_failure_log_with_its_message() {
    let (kind, message) = fault_of("trap", 1).await;
    assert_eq!(kind, FaultKind::Trap);
    assert!(message.contains("panicked"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_number_of_outcomes_is_a_fault_of_the_whole_batch() {
    let (kind, message) = fault_of("wrong-count", 3).await;
    assert_eq!(kind, FaultKind::Answer);
    assert!(message.contains("for 3 events"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_answer_is_refused() {
    // One event is answered with a hundred thousand outcomes; two with texts of eight megabytes.
    let (kind, message) = fault_of("huge-answer", 1).await;
    assert_eq!(kind, FaultKind::Answer, "{message}");
    let (kind, message) = fault_of("huge-answer", 2).await;
    assert_eq!(kind, FaultKind::Quota, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_held_open_are_capped() {
    let (kind, message) = fault_of("handle-leak", 1).await;
    assert_eq!(kind, FaultKind::Quota, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_log_is_cut_escaped_and_counted() {
    let engine = engine(limits());
    let invocation = invoker(&engine, "log-flood").deliver("{}", &events(1)).await;
    assert!(invocation.log.len() <= limits().log_lines + 1);
    let bytes: usize = invocation.log.iter().map(|line| line.text.len()).sum();
    assert!(bytes < limits().log_bytes + 2048, "{bytes}");
    assert!(invocation.log.last().unwrap().text.contains("dropped"));
    assert!(!invocation.log.iter().any(|line| line.text.chars().any(char::is_control)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_response_ends_at_the_deadline_and_costs_no_cpu_time() {
    let downstream = Downstream::start(|_| http::Response::default()).await;
    let limits = Limits { cpu: Duration::from_millis(50), wall: Duration::from_millis(1500), ..Limits::default() };
    let engine = engine(limits);
    let sleepy = Invoker::new(load(&engine, "sleepy"), grant(&downstream.base, "a-bearer-token"));
    let fault = sleepy.deliver("{}", &events(1)).await.result.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Wall, "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_batch_with_the_poisonous_event_fails() {
    let engine = engine(limits());
    let poison = invoker(&engine, "poison");
    assert!(poison.deliver("{}", &events(5)).await.result.is_ok());
    let mut poisonous = events(5);
    poisonous[3].fields = r#"{"note":"poison"}"#.to_owned();
    assert_eq!(poison.deliver("{}", &poisonous).await.result.unwrap_err().kind, FaultKind::Trap);
    assert!(poison.deliver("{}", &events(5)).await.result.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_go_on_while_hostile_components_run() {
    let engine = engine(Limits { instances: 16, ..limits() });
    let hostile: Vec<_> = ["endless-loop", "deep-recursion", "memory-growth", "trap", "handle-leak"]
        .into_iter()
        .map(|name| {
            let invoker = invoker(&engine, name);
            tokio::spawn(async move {
                for _ in 0..5 {
                    assert!(invoker.deliver("{}", &events(1)).await.result.is_err(), "{name}");
                }
            })
        })
        .collect();
    let good = invoker(&engine, "poison");
    for _ in 0..200 {
        let outcomes = good.deliver("{}", &events(2)).await.result.unwrap();
        assert_eq!(outcomes, vec![Outcome::Delivered(None); 2]);
    }
    for task in hostile {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_instance_does_is_gone_with_it() {
    // More invocations than there are instances, some ended in the middle: none of them keeps its place.
    let engine = engine(Limits { instances: 4, ..limits() });
    let (good, bad) = (invoker(&engine, "poison"), invoker(&engine, "trap"));
    for _ in 0..50 {
        assert!(bad.deliver("{}", &events(1)).await.result.is_err());
        assert!(good.deliver("{}", &events(1)).await.result.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_a_standard_library_finds_nothing_behind_wasi() {
    let engine = engine(limits());
    let invocation = invoker(&engine, "wasi-std").deliver("{}", &events(1)).await;
    assert!(invocation.result.is_ok(), "{:?}", invocation.result);
    let said: String = invocation.log.iter().map(|line| format!("{}\n", line.text)).collect();
    assert!(said.contains("what=arguments found=[]") && said.contains("what=environment found=[]"), "{said}");
    assert!(said.contains("what=/etc/passwd found=entries Err(NotFound), bytes Err(NotFound)"), "{said}");
    assert!(!said.contains("entries Ok(") && !said.contains("bytes Ok("), "{said}");
    // The clock is there, as is a standard input that ends at once; nothing can be written.
    assert!(said.contains("what=write found=Err") && said.contains("what=standard input found=Ok(0)"), "{said}");
}

#[test]
fn what_is_no_component_is_refused_with_a_reason() {
    let engine = engine(limits());
    assert!(matches!(engine.load([0; 32], b"\0asm\x01\0\0\0"), Err(EngineError::Compile(_))));
    assert!(matches!(engine.load([0; 32], b"nonsense"), Err(EngineError::Compile(_))));
    let mut flipped = guest("trap");
    let middle = flipped.len() / 2;
    flipped.truncate(middle);
    assert!(matches!(engine.load([0; 32], &flipped), Err(EngineError::Compile(_))));
    let small = kit::engine(Limits { component_bytes: 10, ..limits() });
    assert!(matches!(small.load([0; 32], &guest("trap")), Err(EngineError::TooLarge { limit: 10, .. })));
}
