use super::*;

// In these tests all times are in milliseconds.
const MINUTE: u64 = super::MINUTE.0;
const LONG: u64 = super::LONG.0;
const AGAIN: u64 = super::AGAIN.0;

#[cfg(not(target_arch = "wasm32"))]
#[path = "notice_properties.rs"]
mod properties;

#[test]
fn each_beginning_and_each_end_has_a_line_at_most_once_a_minute() {
    let (begun, line) = Notice::default().begins(1, Instant(5)).unwrap();
    assert_eq!(line, Line::Write);
    let (ended, line) = begun.ends(1, Millis(0), Instant(10)).unwrap();
    assert_eq!(line, Line::Write);
    let (again, line) = ended.begins(1, Instant(20)).unwrap();
    assert_eq!(line, Line::Later(Instant(5 + MINUTE)));
    assert_eq!(again.due(true, Instant(4 + MINUTE)), None);
    let told = again.due(true, Instant(5 + MINUTE)).unwrap();
    assert_eq!(told.due(true, Instant(5 + MINUTE)), None, "once");
    let (over, line) = told.ends(1, Millis(0), Instant(6 + MINUTE)).unwrap();
    assert_eq!(line, Line::Later(Instant(10 + MINUTE)));
    assert_eq!(
        over.due(true, Instant(10 + MINUTE)),
        None,
        "the text of another worker is not true any more"
    );
    assert!(over.due(false, Instant(10 + MINUTE)).is_some());
    let (_, line) = again.ends(1, Millis(0), Instant(30)).unwrap();
    assert_eq!(line, Line::Nothing, "there was no line that it begins");
    assert_eq!(ended.begins(1, Instant(5 + MINUTE)).unwrap().1, Line::Write);
}

#[test]
fn a_good_event_of_another_subject_does_not_end_a_condition_until_long_after() {
    let (bad, _) = Notice::default().begins(1, Instant(5)).unwrap();
    assert_eq!(bad.ends(2, Millis(0), Instant(5 + LONG - 1)), None);
    assert!(bad.ends(2, Millis(0), Instant(5 + LONG)).is_some());
    assert!(bad.ends(1, Millis(0), Instant(5)).is_some());
}

#[test]
fn a_condition_does_not_end_within_the_settling_time_after_it_was_seen() {
    let (bad, _) = Notice::default().begins(1, Instant(5)).unwrap();
    let (bad, _) = bad.begins(1, Instant(8_000)).unwrap();
    assert_eq!(bad.ends(1, Millis(10_000), Instant(17_999)), None);
    assert!(bad.ends(1, Millis(10_000), Instant(18_000)).is_some());
}

#[test]
fn a_condition_that_continues_changes_the_notice_at_most_once_a_second() {
    let (bad, _) = Notice::default().begins(1, Instant(5)).unwrap();
    assert_eq!(bad.begins(2, Instant(4 + AGAIN)), None);
    assert_eq!(bad.begins(2, Instant(5 + AGAIN)).unwrap().1, Line::Nothing);
}

#[test]
fn a_forgotten_condition_ends_without_a_line_and_begins_again_with_one() {
    assert_eq!(Notice::default().forgotten(), None);
    let gone = Notice::default()
        .begins(1, Instant(5))
        .unwrap()
        .0
        .forgotten()
        .unwrap();
    assert_eq!(gone.ends(1, Millis(0), Instant(9)), None);
    assert_eq!(
        gone.begins(1, Instant(9)).unwrap().1,
        Line::Later(Instant(5 + MINUTE))
    );
}

#[test]
fn the_same_text_is_logged_once_a_minute() {
    let text = once(b"", 7, Instant(5)).unwrap();
    assert_eq!(once(&text, 7, Instant(4 + MINUTE)), None);
    assert!(once(&text, 7, Instant(5 + MINUTE)).is_some());
    assert!(once(&text, 8, Instant(5)).is_some(), "another");
    assert!(once(&text, 7, Instant(4)).is_some(), "a time in the future");
    assert!(
        once(&[255; 17], 7, Instant(5)).is_some(),
        "another module's bytes"
    );
}

#[test]
fn all_dead_vms_are_replaced_when_as_many_have_joined_as_died() {
    // Three VMs had joined, and one of them died. Then one joined, and another one died.
    let one = deaths::another(1, false, 3);
    assert_eq!(deaths::all_replaced(one, 3), None);
    assert_eq!(deaths::all_replaced(one, 4), Some(one));
    let two = deaths::another(one, true, 4);
    assert_eq!(deaths::all_replaced(two, 4), None);
    assert_eq!(deaths::all_replaced(two, 5), Some(two));
}

#[test]
fn deaths_that_are_found_in_another_order_wait_for_no_more_vms_than_died() {
    // One died after three had joined, and a fourth joined. Then one more died, which was found first.
    let one = deaths::another(0, false, 4);
    let two = deaths::another(one, true, 3);
    assert_eq!(deaths::all_replaced(two, 4), None);
    assert_eq!(deaths::all_replaced(two, 5), Some(two));
}

#[test]
fn a_vm_that_replaced_an_earlier_dead_one_does_not_count_for_the_next_death() {
    let over = deaths::another(0, false, 3);
    assert_eq!(deaths::all_replaced(over, 4), Some(over));
    let next = deaths::another(over, false, 3);
    assert_eq!(deaths::all_replaced(next, 4), None);
    assert_eq!(deaths::all_replaced(next, 5), Some(next));
    assert_eq!(
        deaths::another(over, false, 9) >> 32,
        9,
        "it died long after"
    );
}

#[test]
fn a_vm_that_joined_between_two_looks_does_not_count_before_a_beat_seen_at_the_second() {
    let mut beaten = deaths::Beaten::default();
    beaten.tick(3);
    assert_eq!(beaten.before(2, 1, 10), 3, "all joined at once");
    // It beats and dies, and another VM joins, all before the next look.
    beaten.tick(4);
    assert_eq!(beaten.before(2, 1, 12), 3);
    beaten.tick(5);
    assert_eq!(beaten.before(2, 1, 12), 3, "it does not beat any more");
    assert_eq!(beaten.before(2, 4, 12), 5, "another, which has not beaten");
    // If a VM still beats, the VMs that joined meanwhile joined before its death.
    beaten.tick(5);
    assert_eq!(beaten.before(2, 4, 14), 5);
}
