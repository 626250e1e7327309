//! Runs between workers.

use super::*;

#[test]
fn a_run_goes_to_the_worker_with_a_poll_and_the_reply_comes_back() {
    let mut home = Bench::new(settings());
    let mut other = Bench::on_worker(1, settings(), home.shared.clone());
    other.poll(0);
    assert_eq!(home.dispatch(0), [Done::Offered { to: 1, attempts_left: 3 }]);
    let message = home.messages.remove(0);
    assert_eq!(other.input(Input::Mesh { from: 0, message }), [Done::Sent(0, run_response(true))]);
    other.sent(0);
    let done = other.fin(0, Some(CLEAN));
    assert_eq!(done, [Done::Replied { to: 0, delivered: true, attempts_left: 2 }, Done::Closed(0)]);
    let message = other.messages.remove(0);
    assert_eq!(home.input(Input::Mesh { from: 1, message }), [answer(0, true)]);
}

#[test]
fn a_wrong_hint_costs_one_offer_and_a_late_reply_is_ignored() {
    let mut home = Bench::new(settings());
    let mut other = Bench::on_worker(1, settings(), home.shared.clone());
    other.poll(0);
    home.dispatch(0);
    other.fin(0, None);
    let message = home.messages.remove(0);
    let done = other.input(Input::Mesh { from: 0, message });
    assert_eq!(done, [Done::Replied { to: 0, delivered: false, attempts_left: 3 }]);
    let reply = other.messages.remove(0);
    assert_eq!(home.input(Input::Mesh { from: 1, message: reply.clone() }), [answer(0, false)]);
    home.sent(0);
    // A late reply does not answer the next dispatch on the same connection.
    other.poll(1);
    assert_eq!(home.receive(0, &dispatch("1")), [Done::Offered { to: 1, attempts_left: 3 }]);
    assert_eq!(home.input(Input::Mesh { from: 1, message: reply }), []);
}

#[test]
fn an_offer_after_its_deadline_is_returned() {
    let mut home = Bench::new(settings());
    let mut other = Bench::on_worker(1, settings(), home.shared.clone());
    other.poll(0);
    home.dispatch(0);
    assert_eq!(home.pass_ms(2_000), [answer(0, false)], "a stalled worker does not delay the answer");
    other.pass_ms(2_000);
    let message = home.messages.remove(0);
    let done = other.input(Input::Mesh { from: 0, message });
    assert_eq!(done, [Done::Replied { to: 0, delivered: false, attempts_left: 3 }]);
}
