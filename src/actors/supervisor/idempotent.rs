//! Idempotent requests: a process that was started with the same spec already counts as started.

use std::collections::HashSet;

use super::Supervisor;
use crate::actors::messages::StartError;
use crate::spec::{Digest, PipeEnd, ProcId, Validated, ValidatedFd, ValidatedProc};

impl Supervisor {
    /// Removes the processes from a request that were started already.
    pub(super) fn leave_out(
        &self,
        request: &mut Validated,
        present: &[ProcId],
    ) -> Result<(), StartError> {
        if !request.idempotent {
            return Err(StartError::InUse(present.to_vec()));
        }
        let known = |id: &&ProcId| {
            let known = self.processes.get(*id).and_then(|owned| owned.identity.as_ref());
            known.map(|known| known.digest).filter(|digest| *digest != Digest::default())
        };
        let unknown: Vec<ProcId> =
            present.iter().filter(|id| known(id).is_none()).cloned().collect();
        if !unknown.is_empty() {
            return Err(StartError::InUse(unknown));
        }
        let requested = |id: &ProcId| request.procs.get(id).map(|proc| proc.digest);
        let other: Vec<ProcId> =
            present.iter().filter(|id| known(id) != requested(id)).cloned().collect();
        if !other.is_empty() {
            return Err(StartError::OtherSpec(other));
        }
        request.procs.retain(|id, _| !present.contains(id));
        let torn = torn(request);
        if torn.is_empty() { Ok(()) } else { Err(StartError::PipeToPresent(torn)) }
    }
}

/// The processes with a pipe whose other end is outside of the request.
fn torn(request: &Validated) -> Vec<ProcId> {
    let ends: HashSet<PipeEnd> = request.procs.values().flat_map(pipe_ends).collect();
    let has_torn = |proc: &ValidatedProc| pipe_ends(proc).any(|end| !ends.contains(&end.other()));
    request.procs.iter().filter(|(_, proc)| has_torn(proc)).map(|(id, _)| id.clone()).collect()
}

fn pipe_ends(proc: &ValidatedProc) -> impl Iterator<Item = PipeEnd> {
    proc.fds.iter().filter_map(|(_, fd)| match fd {
        ValidatedFd::Pipe(end) => Some(*end),
        _ => None,
    })
}
