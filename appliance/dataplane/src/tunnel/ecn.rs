//! Explicit congestion notification through a tunnel (RFC 6040): the outer header carries what the inner one says, and what routers
//! between the ends marked on it comes back to the inner one.

/// The field's two bits in the service field of IPv4 and the traffic class of IPv6 (RFC 3168, 5).
pub const FIELD: u8 = 0b11;
/// Not of an ECN-capable transport.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable, and perhaps of L4S (RFC 9331).
pub const ECT_1: u8 = 0b01;
/// ECN-capable.
pub const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// Whether the outer field may change the inner one.
#[inline(always)]
pub const fn is_marked(outer: u8) -> bool {
    // What [`CE`] and [`ECT_1`] have in common.
    outer & ECT_1 != 0
}

/// What the inner field becomes as the outer header is cut off (RFC 6040, figure 4). `None`: the packet must be dropped, since it was
/// marked as having met congestion, and its ends would not see that.
#[inline(always)]
pub const fn decapsulated(outer: u8, inner: u8) -> Option<u8> {
    match (inner & FIELD, outer & FIELD) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure, row by row: an outer field of each kind over an inner one.
    #[test]
    fn it_is_the_table_of_the_standard() {
        const OUTER: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in rows {
            for (outer, becomes) in OUTER.into_iter().zip(row) {
                assert_eq!(decapsulated(outer, inner), becomes, "outer {outer:02b}, inner {inner:02b}");
                assert_eq!(decapsulated(outer | 0xb8, inner | 0x28), becomes, "other bits do not count");
                assert!(
                    is_marked(outer | 0xb8) || becomes == Some(inner),
                    "outer {outer:02b}, inner {inner:02b}"
                );
            }
        }
    }
}
