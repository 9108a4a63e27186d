//! The states of a process, as pure data: what happened goes in, what is to be done comes out.

/// Where a process is in its life. `P` is what is held of a live child, `X` what is known of its exit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State<P, X> {
    /// Asked for; its child is being made.
    Launching,
    /// Its child lives, or its end is not yet known.
    Alive(P),
    /// Its child is reaped; captures are still open.
    Draining(X),
    /// All is known. Nothing changes any more.
    Ended,
}

/// What happens to a process.
#[derive(Debug)]
pub(super) enum Input<P, X> {
    /// The child is made.
    Spawned(P),
    /// There could be no child.
    NotSpawned(X),
    /// The child is reaped.
    Exited(X),
    /// The last open capture has reached its end.
    CapturesClosed,
    /// The grace for captures has passed.
    GraceOver,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<X> {
    /// Nothing.
    None,
    /// Watch the child for its exit.
    Watch,
    /// Wait for the captures, but no longer than the grace.
    AwaitCaptures,
    /// The process has ended: freeze its captures and tell.
    Finish(X),
}

impl<P, X> State<P, X> {
    /// Moves on by `input`; `open` tells how many captures have not reached their end.
    ///
    /// An input that cannot happen in a state changes nothing.
    pub(super) fn apply(self, input: Input<P, X>, open: usize) -> (Self, Action<X>) {
        match (self, input) {
            (State::Launching, Input::Spawned(child)) => (State::Alive(child), Action::Watch),
            (State::Launching, Input::NotSpawned(exit))
            | (State::Alive(_), Input::Exited(exit)) => {
                if open == 0 {
                    (State::Ended, Action::Finish(exit))
                } else {
                    (State::Draining(exit), Action::AwaitCaptures)
                }
            }
            (State::Draining(exit), Input::CapturesClosed) if open == 0 => {
                (State::Ended, Action::Finish(exit))
            }
            (State::Draining(exit), Input::GraceOver) => (State::Ended, Action::Finish(exit)),
            (state, _) => (state, Action::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type S = State<(), u8>;

    #[test]
    fn the_two_ways_to_the_end() {
        let (state, action) = S::Launching.apply(Input::Spawned(()), 1);
        assert_eq!(action, Action::Watch);
        let (state, action) = state.apply(Input::CapturesClosed, 0);
        assert_eq!((&state, action), (&State::Alive(()), Action::None));
        let (state, action) = state.apply(Input::Exited(3), 0);
        assert_eq!((state, action), (State::Ended, Action::Finish(3)));

        let (state, action) = S::Alive(()).apply(Input::Exited(3), 2);
        assert_eq!((&state, action), (&State::Draining(3), Action::AwaitCaptures));
        let (state, action) = state.apply(Input::CapturesClosed, 1);
        assert_eq!(action, Action::None);
        let (state, action) = state.apply(Input::GraceOver, 1);
        assert_eq!((state, action), (State::Ended, Action::Finish(3)));
    }

    proptest! {
        /// Whatever comes in whatever order, a process ends at most once, and never without its exit.
        #[test]
        fn ends_once(inputs in prop::collection::vec((0u8..5, 0usize..3), 0..20)) {
            let mut state = S::Launching;
            let mut exited = false;
            let mut finished = 0;
            for (kind, open) in inputs {
                let input = match kind {
                    0 => Input::Spawned(()),
                    1 => Input::NotSpawned(9),
                    2 => Input::Exited(9),
                    3 => Input::CapturesClosed,
                    _ => Input::GraceOver,
                };
                exited |= matches!((&state, &input),
                    (State::Launching, Input::NotSpawned(_)) | (State::Alive(()), Input::Exited(_)));
                let (next, action) = state.apply(input, open);
                state = next;
                if matches!(action, Action::Finish(_)) {
                    finished += 1;
                    prop_assert!(exited);
                }
            }
            prop_assert!(finished <= 1);
            prop_assert_eq!(finished == 1, state == State::Ended);
        }
    }
}
