//! Specs: JSON of INPUT and HTTP, MessagePack of the server.

use procstar::spec::{SpecErrors, StartRequest, Validated, diagnose, from_json, from_msgpack};

/// The same text is read as JSON and as the MessagePack of a request's `specs`.
pub fn check(data: &[u8]) {
    json(data);
    msgpack(data);
}

/// What is accepted means the same when it is written out and read again; what is refused says why, and where it says where, that
/// place is in the text.
fn json(data: &[u8]) {
    match from_json(data) {
        Ok(validated) => accepted(data, &validated),
        Err(errors) => {
            told(&errors);
            for (line, column) in errors.0.iter().filter_map(|error| error.position) {
                let lines = data.split(|byte| *byte == b'\n').collect::<Vec<_>>();
                assert!(line >= 1 && line <= lines.len(), "line {line} of {}", lines.len());
                // One past the end is where something is missing.
                assert!(column <= lines[line - 1].len() + 1, "column {column} of line {line}");
            }
            let all = diagnose(data).expect_err("a text that is refused has something wrong");
            told(&all);
        }
    }
}

fn accepted(data: &[u8], validated: &Validated) {
    let request: StartRequest = serde_json::from_slice(data).expect("what validates has parsed");
    let again = serde_json::to_vec(&request).expect("a request can be written");
    let again = from_json(&again).expect("what was written can be read");
    assert_eq!(&again, validated, "the same request, written out");

    // The keeper gets it as MessagePack.
    let sent = rmp_serde::to_vec(validated).expect("it can be sent");
    let got: Validated = rmp_serde::from_slice(&sent).expect("it can be received");
    assert_eq!(&got, validated, "the same request, at the keeper");

    // The server sends it as MessagePack.
    let specs = rmp_serde::to_vec_named(&request.specs).expect("specs can be written");
    let got = from_msgpack(&specs, request.all_or_nothing, request.idempotent);
    assert_eq!(&got.expect("the same specs from a server"), validated);

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
        Err(errors) => told(&errors),
    }
}

fn told(errors: &SpecErrors) {
    assert!(!errors.0.is_empty(), "an error says what is wrong");
    assert!(!errors.to_string().is_empty());
}
