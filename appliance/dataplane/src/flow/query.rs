//! ICMP queries as flows: one side asks, the other answers (RFC 5508, 3).

use super::Side;
use crate::verdict::DropReason;
use crate::wire::IcmpClass;

/// Whether this message may open a flow: only an echo request may.
///
/// # Errors
/// [`DropReason::InvalidState`] for every other message.
#[inline]
pub fn open(class: IcmpClass) -> Result<(), DropReason> {
    match class {
        IcmpClass::EchoRequest => Ok(()),
        _ => Err(DropReason::InvalidState),
    }
}

/// Whether this message, sent by `side`, fits an echo flow: requests by the initiator, replies by the responder.
///
/// # Errors
/// [`DropReason::InvalidState`] for every other message.
#[inline]
pub fn check(side: Side, class: IcmpClass) -> Result<(), DropReason> {
    match (side, class) {
        (Side::Initiator, IcmpClass::EchoRequest) | (Side::Responder, IcmpClass::EchoReply) => Ok(()),
        _ => Err(DropReason::InvalidState),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [IcmpClass; 7] = [
        IcmpClass::EchoRequest,
        IcmpClass::EchoReply,
        IcmpClass::Error,
        IcmpClass::NeighborSolicitation,
        IcmpClass::NeighborAdvertisement,
        IcmpClass::LinkLocal,
        IcmpClass::Other,
    ];

    #[test]
    fn only_a_request_opens() {
        let opening: Vec<_> = ALL.into_iter().filter(|class| open(*class).is_ok()).collect();
        assert_eq!(opening, [IcmpClass::EchoRequest]);
    }

    #[test]
    fn requests_go_one_way_and_replies_the_other() {
        let passing = |side| ALL.into_iter().filter(|class| check(side, *class).is_ok()).collect::<Vec<_>>();
        assert_eq!(passing(Side::Initiator), [IcmpClass::EchoRequest]);
        assert_eq!(passing(Side::Responder), [IcmpClass::EchoReply]);
    }
}
