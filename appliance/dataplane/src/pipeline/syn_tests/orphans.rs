//! Connections that an appliance before this one knew.

use super::*;

/// The one reset that left, which says where its sender would go on and nothing else.
fn only_reset(port: PortId, left: &[(PortId, Vec<u8>)], seq: u32) {
    assert_eq!((left.len(), left[0].0), (1, port), "{left:x?}");
    let reset = heard(&left[0].1);
    assert_eq!((reset.tcp.flags.0, reset.tcp.seq, reset.tcp.ack), (TcpFlags::RST, seq, 0));
    assert!(reset.raw_options.is_empty() && reset.payload.is_empty());
}

#[test]
fn s20_both_ends_are_reset_as_long_as_there_may_be_any() {
    for ends in BOTH {
        let late =
            from_client(ends).flags(TcpFlags::ACK).seq(7_000, 8_000).payload(b"after the crash").build();
        let from_server = from_backend(ends).flags(TcpFlags::FIN | TcpFlags::ACK).seq(9_000, 7_000).build();
        let [invalid_cookie, invalid_state] = [DropReason::InvalidCookie, DropReason::InvalidState];

        let mut rig = Rig::new();
        assert_eq!(rig.send(OUT, &late), (Verdict::Drop(invalid_cookie), vec![]), "there was none before");
        assert_eq!(rig.send(IN, &from_server), (Verdict::Drop(invalid_state), vec![]));

        rig.pipeline = rig.pipeline.with_orphans(START);
        let (verdict, left) = rig.send(OUT, &late);
        assert_eq!(verdict, Verdict::Reply(Some(invalid_cookie)));
        only_reset(OUT, &left, 8_000);
        let (verdict, left) = rig.send(IN, &from_server);
        assert_eq!(verdict, Verdict::Reply(Some(invalid_state)));
        only_reset(IN, &left, 7_000);
        assert_eq!(rig.pipeline.counters().syn.resets, 2);
        // A reset ends it for its sender too, and a SYN-ACK is no answer to anything.
        let reset = from_client(ends).flags(RST_ACK).seq(1, 2).build();
        assert_eq!(rig.send(OUT, &reset), (Verdict::Drop(invalid_state), vec![]));
        let lone = from_backend(ends).flags(SYN_ACK).seq(3, 4).build();
        assert_eq!(rig.send(IN, &lone), (Verdict::Drop(invalid_state), vec![]));

        // The idle timeout of TCP is over.
        rig.pass(Duration::from_secs(240));
        assert_eq!(rig.send(OUT, &late), (Verdict::Drop(invalid_cookie), vec![]));
        assert_eq!(rig.balance(), (0, 0));
    }
}
