//! The queues between workers, and when a worker is woken.

use super::*;
use crate::{Burst, idle};

type Crew = Vec<Post<usize, u16>>;

fn crew(workers: usize) -> Crew {
    posts(workers, false).expect("some descriptors")
}

#[test]
fn things_come_in_order_and_what_is_too_many_comes_back() {
    let mut crew = crew(3);
    for thing in 0..ROOM_MAX {
        assert_eq!(crew[0].peers.hand_over(2, thing), Ok(()));
    }
    assert_eq!(crew[0].peers.hand_over(2, ROOM_MAX), Err(ROOM_MAX));
    assert_eq!(crew[0].peers.hand_over(1, 7), Ok(()));
    for nobody in [0, 3] {
        assert_eq!(crew[0].peers.hand_over(nobody, 7), Err(7));
    }
    let mut next = 0;
    let mut burst = Burst::new();
    assert_eq!(crew[2].inbox.take(&mut burst), 0, "not flushed yet");
    crew[0].peers.flush();
    while crew[2].inbox.take(&mut burst) > 0 {
        burst.drain(..).for_each(|thing| {
            assert_eq!(thing, next);
            next += 1;
        });
    }
    assert_eq!((next, crew[0].inbox.take(&mut burst)), (ROOM_MAX, 0));
}

#[test]
fn nobody_is_taken_from_last_always() {
    let mut crew = crew(3);
    let mut burst = ArrayVec::<usize, 4>::new();
    let mut taken = [0; 2];
    for _ in 0..6 {
        for (sender, post) in crew[..2].iter_mut().enumerate() {
            while post.peers.hand_over(2, sender).is_ok() {}
            post.peers.flush();
        }
        crew[2].inbox.take(&mut burst);
        burst.drain(..).for_each(|sender| taken[sender] += 1);
    }
    assert_eq!(taken, [12, 12]);
}

#[test]
fn news_wait_for_room_and_reach_all_others() {
    let mut crew = crew(3);
    let count = 2 * NEWS as u16;
    for number in 0..count + 5 {
        crew[1].peers.tell(number);
        if number < NEWS as u16 {
            crew[1].peers.flush();
        }
    }
    for at in [0, 2] {
        let mut heard = Vec::new();
        while let Some(news) = crew[at].inbox.news() {
            heard.push(news);
            crew[1].peers.flush();
        }
        assert_eq!(heard, (0..count).collect::<Vec<_>>(), "worker {at}");
    }
    assert_eq!(crew[1].inbox.news(), None);
}

#[test]
fn a_sleeper_is_woken_once_and_only_while_it_sleeps() {
    let mut crew = crew(2);
    let [giver, sleeper] = &mut crew[..] else { panic!("two of them") };
    let give = |giver: &mut Post<usize, u16>| {
        assert_eq!(giver.peers.hand_over(1, 1), Ok(()));
        giver.peers.flush();
    };
    let is_woken = |sleeper: &Post<usize, u16>| {
        idle::wait(&[sleeper.inbox.wait_handle().expect("it has a bell")], 0).expect("a poll")
    };
    let mut burst = Burst::new();

    give(giver);
    assert!(!is_woken(sleeper), "it is awake");
    assert!(!sleeper.inbox.lie_down(), "there is a thing");
    assert_eq!(sleeper.inbox.take(&mut burst), 1);
    assert!(sleeper.inbox.lie_down());
    giver.peers.flush();
    assert!(!is_woken(sleeper), "nothing was given");
    give(giver);
    give(giver);
    assert!(is_woken(sleeper));
    sleeper.inbox.get_up();
    assert!(!is_woken(sleeper));
    assert_eq!(sleeper.inbox.take(&mut burst), 2);
    assert!(sleeper.inbox.lie_down());
    giver.peers.tell(1);
    giver.peers.flush();
    assert!(is_woken(sleeper));
}

#[test]
fn two_threads_never_sleep_on_something() {
    const THINGS: usize = 20_000;
    std::thread::scope(|scope| {
        for (own, post) in crew(2).into_iter().enumerate() {
            scope.spawn(move || {
                // One thing goes to and fro: each side sleeps for every one.
                let Post { mut inbox, mut peers } = post;
                let mut burst = Burst::new();
                let mut next = own;
                if own == 0 {
                    assert_eq!(peers.hand_over(1, 1), Ok(()));
                    peers.flush();
                    next = 2;
                }
                while next < THINGS {
                    if inbox.lie_down() {
                        let handle = inbox.wait_handle().expect("it has a bell");
                        assert!(idle::wait(&[handle], 60_000).expect("a poll"), "{own} sleeps on {next}");
                        inbox.get_up();
                    }
                    if inbox.take(&mut burst) > 0 {
                        assert_eq!(burst.drain(..).collect::<Vec<_>>(), [next]);
                        assert_eq!(peers.hand_over(1 - own, next + 1), Ok(()));
                        peers.flush();
                        next += 2;
                    }
                }
            });
        }
    });
}

#[test]
fn one_alone_has_nobody() {
    let mut crew = crew(1);
    let Post { inbox, peers } = &mut crew[0];
    peers.tell(1);
    peers.flush();
    assert_eq!(peers.hand_over(0, 5), Err(5));
    assert!(inbox.wait_handle().is_none() && inbox.lie_down());
    assert_eq!(inbox.news(), None);
}
