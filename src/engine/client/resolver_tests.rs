//! Who is looked up first, and that nothing is kept of those that wait no more.

use super::*;

fn names(queue: &mut Queue, threads: usize, now: Instant, count: usize) -> Vec<String> {
    (0..count).map_while(|_| queue.take(threads, now)).map(|name| name.to_string()).collect()
}

#[test]
fn names_that_wait_are_served_in_their_order() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    ["a", "b", "c"].iter().for_each(|name| _ = queue.push((*name).into(), false, now));
    assert_eq!(names(&mut queue, 2, now, 9), ["a", "b", "c"]);
}

#[test]
fn what_was_slow_stands_behind_but_has_its_turn_and_never_all_threads() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    ["s", "t", "u"].iter().for_each(|name| _ = queue.push((*name).into(), true, now));
    ["a", "b", "c", "d"].iter().for_each(|name| _ = queue.push((*name).into(), false, now));
    assert_eq!(names(&mut queue, 2, now, 9), ["a", "b", "c", "s", "d"], "the second thread waits for a quick name");
    queue.slow_under_way -= 1;
    assert_eq!(names(&mut queue, 2, now, 9), ["t"]);
    queue.slow_under_way -= 1;
    assert_eq!(names(&mut queue, 1, now, 9), ["u"], "a single thread serves both");
}

#[test]
fn behind_many_that_are_stuck_the_newest_has_every_other_turn() {
    let (mut queue, then) = (Queue::default(), Instant::now());
    (0..100).for_each(|number| _ = queue.push(format!("{number}").into(), false, then));
    let now = then + 2 * SLOW;
    queue.push("quick".into(), false, now);
    assert!(names(&mut queue, 2, now, 2).contains(&"quick".to_string()));
    assert_eq!(names(&mut queue, 2, now, 1), ["99"]);
    assert_eq!(names(&mut queue, 2, now, 1), ["1"]);
}

#[test]
fn equal_names_are_one_and_a_name_that_nobody_waits_for_is_none() {
    let (mut state, now) = (State::default(), Instant::now());
    let askers = [state.ask("a", now), state.ask("a", now)];
    assert_eq!((state.names.len(), state.queue.fresh.len()), (1, 1));
    for asker in askers {
        assert!(state.forget("a", asker).is_none());
    }
    assert_eq!((state.names.len(), state.queue.fresh.len()), (0, 0));
    assert!(state.begin(2, now).is_none());
}

#[test]
fn an_answer_reaches_all_who_asked_meanwhile_and_is_forgotten_with_them() {
    let (mut state, now) = (State::default(), Instant::now());
    let first = state.ask("a", now);
    let name = state.begin(2, now).unwrap();
    let second = state.ask("a", now);
    assert!(state.begin(2, now).is_none(), "it is looked up once");
    state.answered(&name, Ok(Vec::new()), true, 10);
    assert_eq!((state.answers.len(), state.names.len()), (2, 0));
    [first, second].iter().for_each(|asker| _ = state.forget("a", *asker));
    assert!(state.answers.is_empty());
    // It was slow.
    state.ask("a", now);
    assert_eq!((state.queue.fresh.len(), state.queue.slow.len()), (0, 1));
    let name = state.begin(2, now).unwrap();
    state.answered(&name, Ok(Vec::new()), false, 10);
    assert_eq!((state.slow.len(), state.queue.slow_under_way), (0, 0));
}

#[test]
fn names_that_were_slow_take_bounded_room() {
    let (mut state, now) = (State::default(), Instant::now());
    for number in 0..100 {
        state.ask(&number.to_string(), now);
        let name = state.begin(2, now).unwrap();
        state.answered(&name, Ok(Vec::new()), true, 10);
        assert!(state.slow.len() <= 10);
    }
}
