use super::*;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ALL: usize = usize::MAX;

#[test]
fn a_ticket_gives_its_slot_back_once() {
    let mut ledger = Ledger::default();
    let ticket = ledger.hold(3, 10);
    assert_eq!(ledger.share(3), 1);
    assert_eq!(ledger.release(ticket), Some(3));
    assert_eq!(ledger.share(3), 0);
}

#[test]
fn a_swept_stream_gives_nothing_back_at_its_end() {
    let mut ledger = Ledger::default();
    let (done, busy) = (ledger.hold(0, 10), ledger.hold(0, 11));
    assert_eq!(ledger.sweep(0, ALL, |stream| stream == 10), 1);
    assert_eq!(ledger.sweep(0, ALL, |stream| stream == 10), 0, "swept once");
    assert_eq!(ledger.share(0), 1);
    assert_eq!(ledger.release(done), None);
    assert_eq!(ledger.release(busy), Some(0));
}

#[test]
fn a_sweep_asks_only_for_streams_of_its_service() {
    let mut ledger = Ledger::default();
    let (_a, _b) = (ledger.hold(0, 10), ledger.hold(1, 11));
    let mut asked = vec![];
    ledger.sweep(1, ALL, |stream| {
        asked.push(stream);
        false
    });
    assert_eq!(asked, [11]);
}

#[test]
fn a_sweep_asks_for_no_more_streams_than_it_may() {
    let mut ledger = Ledger::default();
    let _tickets: Vec<Ticket> = (0..10).map(|stream| ledger.hold(0, stream)).collect();
    let mut asked = 0;
    ledger.sweep(0, 4, |_| {
        asked += 1;
        false
    });
    assert_eq!(asked, 4);
}

#[test]
fn slots_are_reused() {
    let mut ledger = Ledger::default();
    for stream in 0..1000 {
        let ticket = ledger.hold(0, stream);
        ledger.sweep(0, ALL, |_| stream % 2 == 0);
        ledger.release(ticket);
    }
    assert_eq!(ledger.slots.len(), 1);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is held, swept and released: what was given back is what was held, and the shares tell the rest.
        #[test]
        fn held_is_given_back_exactly_once(ops in prop::collection::vec((0u8..3, 0usize..3, 0u32..40), 1..500)) {
            let mut ledger = Ledger::default();
            let mut tickets = vec![];
            let mut counts = [0i64; 3];
            for (op, service, stream) in ops {
                match op {
                    0 => { counts[service] += 1; tickets.push(ledger.hold(service, stream)); }
                    1 if !tickets.is_empty() => {
                        let ticket = tickets.swap_remove(stream as usize % tickets.len());
                        if let Some(of) = ledger.release(ticket) { counts[of] -= 1; }
                    }
                    _ => counts[service] -= i64::from(ledger.sweep(service, ALL, |s| s % 3 == stream % 3)),
                }
                for (service, count) in counts.iter().enumerate() {
                    prop_assert_eq!(*count, ledger.share(service) as i64);
                }
            }
            for ticket in tickets {
                if let Some(of) = ledger.release(ticket) { counts[of] -= 1; }
            }
            prop_assert_eq!(counts, [0; 3]);
        }
    }
}
