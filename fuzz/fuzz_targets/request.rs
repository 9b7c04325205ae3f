//! Any bytes as a job request: it is canonical, or every fault is named. The same properties stand
//! in the contract's suite, for fewer bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use photofinish_contract::request::{self, JobRequest};

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice(bytes) else {
        return;
    };
    match request::parse(&body) {
        Ok(request) => {
            let text = serde_json::to_string(&request).expect("a request is JSON");
            let again: JobRequest = serde_json::from_str(&text).expect("we read what we write");
            assert_eq!(again, request);
        }
        Err(fault) => {
            assert!((1..=1000).contains(&fault.errors.len()));
            assert!(fault.errors.iter().all(|e| !e.detail.is_empty()));
            assert!(
                fault
                    .errors
                    .iter()
                    .all(|e| e.pointer.is_empty() || e.pointer.starts_with('/'))
            );
        }
    }
});
