//! What a trail leaves for each way in which a call can go.

use super::*;

fn key(number: u8) -> KeyId {
    KeyId::from_bytes([number; 16])
}

fn trail(keys: u8) -> Trail {
    let trail = Trail::new([1; 16], 5, Operation::FETCH, None);
    trail.asks_for((0..keys).map(key));
    trail
}

fn told(decisions: &[Decision]) -> Vec<(Outcome, &str, usize)> {
    decisions.iter().map(|decision| (decision.outcome.clone(), decision.rule.as_str(), decision.keys.len())).collect()
}

fn refused(word: &str) -> Outcome {
    Outcome::Refused(word.to_owned())
}

#[test]
fn keys_with_one_outcome_share_an_entry_and_every_key_is_named_once() {
    let trail = trail(5);
    for position in [0, 2, 4] {
        trail.note(position, Note::allowed("owner"));
    }
    trail.note(1, Note::refused(Word::NotPermitted));
    let decisions = trail.finish(None);
    assert_eq!(
        told(&decisions),
        [(Outcome::Allowed, "owner", 3), (refused("not-permitted"), "", 1), (Outcome::Allowed, "", 1)]
    );
    let mut named: Vec<_> = decisions.iter().flat_map(|decision| decision.keys.clone()).collect();
    named.sort();
    assert_eq!(named, (0..5).map(key).collect::<Vec<_>>());
    assert!(trail.finish(None).is_empty(), "a call ends once");
}

#[test]
fn a_call_that_fails_released_nothing_whatever_was_noted() {
    let trail = trail(3);
    trail.note(0, Note::allowed("owner"));
    trail.note(1, Note::refused(Word::KeyNotFound));
    let failed = Outcome::Failed("hsm-unavailable".to_owned());
    assert_eq!(
        told(&trail.finish(Some(Word::HsmUnavailable))),
        [(failed.clone(), "owner", 1), (refused("key-not-found"), "", 1), (failed, "", 1)]
    );
}

#[test]
fn a_call_without_keys_leaves_one_entry() {
    let trail = trail(0);
    assert_eq!(told(&trail.finish(Some(Word::NotAuthenticated))), [(refused("not-authenticated"), "", 0)]);
}

#[test]
fn what_was_written_ahead_is_written_again_only_when_it_did_not_happen() {
    let done = trail(2);
    let undone = trail(2);
    for trail in [&done, &undone] {
        for position in 0..2 {
            trail.note(position, Note::allowed("owner").with_access_list([9; 32]));
        }
        let ahead = trail.ahead().expect("not finished");
        assert_eq!(told(&ahead), [(Outcome::Allowed, "owner", 2)]);
        assert_eq!(ahead[0].access_list, Some([9; 32]));
    }
    assert!(done.finish(None).is_empty());
    assert_eq!(told(&undone.finish(Some(Word::KeyExists))), [(refused("key-exists"), "owner", 2)]);
}

#[test]
fn after_a_call_took_too_long_the_log_says_what_its_work_does_and_no_more() {
    // The work had begun: it goes on, and what was written stays true.
    let begun = trail(2);
    begun.note(0, Note::allowed("owner"));
    assert_eq!(told(&begun.ahead().expect("in time")), [(Outcome::Allowed, "owner", 1)]);
    let timeout = Outcome::Failed("timeout".to_owned());
    assert_eq!(told(&begun.finish(Some(Word::Timeout))), [(timeout.clone(), "", 1)]);
    // It had not begun: nothing may be done any more. What was to be released was not.
    let late = trail(1);
    late.note(0, Note::allowed("owner"));
    assert_eq!(told(&late.finish(Some(Word::Timeout))), [(timeout, "owner", 1)]);
    late.note(0, Note::allowed("owner"));
    assert_eq!(late.ahead().err().map(|error| error.word()), Some(Word::Timeout));
}
