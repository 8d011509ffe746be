//! Slots between workers and the host thread: order, room, and that none is lost.

use super::slot::{Desk, HostEnd, SLOTS, Slot};
use nva_dataplane::verdict::PortId;
use std::sync::Arc;

const PORTS: [PortId; 2] = [PortId(0), PortId(2)];

fn desk() -> Arc<Desk> {
    Arc::new(Desk::new(3, PORTS.into_iter(), 100, 2).expect("some descriptors"))
}

/// The kernel sends a frame.
fn sent(desk: &Desk, port: PortId, bytes: &[u8]) -> Option<Slot> {
    let mut slot = desk.lane(port)?.from_kernel_empty.pop()?;
    let read = slot.read(|room| {
        room[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(bytes.len()))
    });
    assert!(read.expect("no failure"));
    Some(slot)
}

#[test]
fn frames_reach_the_kernel_in_order_and_what_is_too_many_is_refused() {
    let desk = desk();
    let mut end = HostEnd::new(Arc::clone(&desk), 1);
    assert!(desk.is_quiet());
    for number in 0..SLOTS {
        assert!(end.give(PORTS[0], &number.to_le_bytes()));
    }
    assert!(!desk.is_quiet());
    assert!(!end.give(PORTS[0], b"one more"));
    assert!(end.give(PORTS[1], b"another port has room of its own"));
    assert!(!end.give(PortId(1), b"no host interface") && !end.give(PortId(9), b"no port"));
    let lane = desk.lane(PORTS[0]).expect("a host interface");
    for number in 0..SLOTS {
        let slot = lane.to_kernel.pop().expect("as many as were given");
        assert_eq!((slot.bytes(), slot.port()), (&number.to_le_bytes()[..], PORTS[0]));
        assert!(lane.to_kernel_empty.push(slot).is_ok());
    }
    assert!(lane.to_kernel.is_empty() && end.give(PORTS[0], b"room again"));
}

#[test]
fn a_frame_that_is_too_long_is_refused_and_its_slot_stays() {
    let desk = desk();
    let mut end = HostEnd::new(Arc::clone(&desk), 1);
    for _ in 0..2 * SLOTS {
        assert!(!end.give(PORTS[0], &[0; 115]));
    }
    assert!(desk.is_quiet() && end.give(PORTS[0], &[0; 114]));
}

#[test]
fn slots_of_the_kernels_frames_go_round() {
    let desk = desk();
    let mut end = HostEnd::new(Arc::clone(&desk), 1);
    for round in 0..3 {
        let slots: Vec<Slot> = (0..SLOTS).map_while(|_| sent(&desk, PORTS[1], &[round; 60])).collect();
        assert_eq!(slots.len(), SLOTS);
        assert!(sent(&desk, PORTS[1], b"no slot").is_none(), "it waits in the kernel");
        assert!(end.is_quiet());
        for slot in slots {
            assert!(desk.deliver(1, slot).is_ok());
        }
        assert!(!end.is_quiet() && HostEnd::new(Arc::clone(&desk), 0).is_quiet());
        for _ in 0..SLOTS {
            let slot = end.take().expect("as many as were sent");
            assert_eq!(slot.bytes(), [round; 60]);
            end.give_back(slot);
        }
        assert!(end.take().is_none());
    }
}

#[test]
fn a_reader_that_says_too_much_is_not_believed() {
    let desk = desk();
    let mut slot = sent(&desk, PORTS[0], b"x").expect("a slot");
    assert!(slot.read(|_| Ok(Some(10_000))).expect("no failure"));
    assert_eq!(slot.bytes().len(), 114);
    assert!(!slot.read(|_| Ok(None)).expect("no failure"));
    assert!(slot.bytes().is_empty());
}

#[test]
fn who_is_to_end_is_not_quiet() {
    let desk = desk();
    assert!(desk.bell.lie_down(|| desk.is_quiet()));
    desk.stop();
    assert!(pmd_shim::idle::wait(&[desk.bell.wait_handle()], 0).expect("a poll"), "it is woken");
    desk.bell.get_up();
    assert!(!desk.bell.lie_down(|| desk.is_quiet()));
}
