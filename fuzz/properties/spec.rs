//! Specs: JSON from a file or HTTP, MessagePack from a scheduler.

use procstar::spec::{SpecErrors, StartRequest, Validated, diagnose, from_json, from_msgpack};

/// Reads the input as JSON, and as the MessagePack of a request's `specs`.
pub fn check(data: &[u8]) {
    json(data);
    msgpack(data);
}

/// An accepted request, written and read again, is the same request. A refused one has an error,
/// and the position of an error is inside the text.
fn json(data: &[u8]) {
    match from_json(data) {
        Ok(validated) => accepted(data, &validated),
        Err(errors) => {
            has_message(&errors);
            for (line, column) in errors.0.iter().filter_map(|error| error.position) {
                let lines = data.split(|byte| *byte == b'\n').collect::<Vec<_>>();
                assert!(line >= 1 && line <= lines.len(), "line {line} of {}", lines.len());
                // A missing part is reported one past the end.
                assert!(column <= lines[line - 1].len() + 1, "column {column} of line {line}");
            }
            let all = diagnose(data).expect_err("a refused text has errors");
            has_message(&all);
        }
    }
}

fn accepted(data: &[u8], validated: &Validated) {
    let request: StartRequest = serde_json::from_slice(data).expect("a valid text parses");
    let again = serde_json::to_vec(&request).expect("a request can be encoded");
    let again = from_json(&again).expect("an encoded request can be read");
    assert_eq!(&again, validated, "the same request, written out");

    // The worker sends the request to the keeper as MessagePack.
    let sent = rmp_serde::to_vec(validated).expect("a request can be encoded");
    let got: Validated = rmp_serde::from_slice(&sent).expect("an encoded request can be decoded");
    assert_eq!(&got, validated, "the same request, at the keeper");

    // A scheduler sends the specs as MessagePack.
    let specs =
        rmp_serde::to_vec(&serde_json::to_value(&request.specs).expect("specs become a value"))
            .expect("specs can be encoded");
    let got = from_msgpack(&specs, request.all_or_nothing, request.idempotent);
    assert_eq!(&got.expect("the same specs from a scheduler"), validated);

    let mut ends = std::collections::HashMap::new();
    for (_, fd) in validated.procs.values().flat_map(|proc| &proc.fds) {
        if let procstar::spec::ValidatedFd::Pipe(end) = fd {
            assert!(end.pipe() < validated.pipes, "{end:?} of {} pipes", validated.pipes);
            *ends.entry(*end).or_insert(0) += 1;
        }
    }
    assert_eq!(ends.len(), 2 * validated.pipes, "both ends of each pipe");
    assert!(ends.values().all(|count| *count == 1), "each end once");
}

fn msgpack(data: &[u8]) {
    match from_msgpack(data, false, false) {
        Ok(validated) => {
            let sent = rmp_serde::to_vec(&validated).expect("it can be sent");
            let got: Validated = rmp_serde::from_slice(&sent).expect("it can be received");
            assert_eq!(got, validated);
        }
        Err(errors) => has_message(&errors),
    }
}

fn has_message(errors: &SpecErrors) {
    assert!(!errors.0.is_empty(), "at least one error");
    assert!(!errors.to_string().is_empty());
}
