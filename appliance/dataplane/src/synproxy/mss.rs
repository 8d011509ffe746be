//! The client's maximum segment size, as close as a cookie can tell it.

use crate::addr::Family;

/// A class of sizes, as it stands in a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u8);

/// Parts of the way from one class to the next that a timestamp can tell.
pub const PARTS: u16 = 16;

/// The least size of each class. The first is that of a host that names none (RFC 9293, 3.7.1), and stands for smaller ones too: segments
/// smaller than that serve attacks only. The others are those that links and tunnels lead to.
const V4: [u16; Class::COUNT] = [536, 1000, 1220, 1360, 1400, 1460, 8960];
const V6: [u16; Class::COUNT] = [1220, 1280, 1340, 1380, 1400, 1440, 8940];

impl Class {
    /// How many there are.
    pub const COUNT: usize = 7;
    /// The one of hosts that name no size.
    pub const LEAST: Self = Self(0);

    /// From a cookie's bits; `None`: no class has these.
    #[inline]
    pub fn from_bits(bits: u8) -> Option<Self> {
        (usize::from(bits) < Self::COUNT).then_some(Self(bits))
    }

    /// The nearest class not above it of the four that are told without a timestamp.
    #[inline]
    pub fn rough(self) -> Self {
        Self(match self.0 {
            0 => 0,
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        })
    }

    /// As a cookie's bits: below 8.
    #[inline]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The class of a size, and the part of the way to the next class that is below it.
    #[inline(always)]
    pub fn of(mss: u16, family: Family) -> (Self, u16) {
        let sizes = sizes(family);
        let mut above = 0;
        for least in sizes.iter().skip(1) {
            above += usize::from(mss >= *least);
        }
        let from = sizes.get(above).copied().unwrap_or(0);
        let inverse = inverses(family).get(above).copied().unwrap_or(0);
        let part = (u64::from(mss.saturating_sub(from)) * inverse) >> INVERSE_SHIFT;
        (Self(above as u8), (part as u16).min(PARTS - 1))
    }

    /// A size that is not above the one that the class and part were [made](Self::of) of, unless that was below all classes.
    #[inline]
    pub fn size(self, part: u16, family: Family) -> u16 {
        let (from, width) = self.span(family);
        from + (u32::from(width) * u32::from(part.min(PARTS - 1))).div_ceil(u32::from(PARTS)) as u16
    }

    /// Its least size, and how far it is to the next one's. Beyond the last class nothing is told apart.
    fn span(self, family: Family) -> (u16, u16) {
        let sizes = sizes(family);
        let at = usize::from(self.0).min(Self::COUNT - 1);
        let next = sizes.get(at + 1).copied().unwrap_or(u16::MAX);
        (sizes[at], next - sizes[at])
    }
}

/// Inverses are in units of 2^-40: so small that a part is exact for every size of 16 bits.
const INVERSE_SHIFT: u32 = 40;
const INVERSES: [[u64; Class::COUNT]; 2] = [inverses_of(&V4), inverses_of(&V6)];

/// Parts by width, rounded up: of each class.
const fn inverses_of(sizes: &[u16; Class::COUNT]) -> [u64; Class::COUNT] {
    let mut inverses = [0; Class::COUNT];
    let mut class = 0;
    while class < Class::COUNT {
        let next = if class + 1 < Class::COUNT { sizes[class + 1] } else { u16::MAX };
        inverses[class] = ((PARTS as u64) << INVERSE_SHIFT).div_ceil((next - sizes[class]) as u64);
        class += 1;
    }
    inverses
}

#[inline]
const fn inverses(family: Family) -> &'static [u64; Class::COUNT] {
    match family {
        Family::V4 => &INVERSES[0],
        Family::V6 => &INVERSES[1],
    }
}

#[inline]
const fn sizes(family: Family) -> &'static [u16; Class::COUNT] {
    match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_above_what_the_client_named_and_close_to_it() {
        for family in [Family::V4, Family::V6] {
            let least = sizes(family)[0];
            for mss in 0..=u16::MAX {
                let (class, part) = Class::of(mss, family);
                let (from, width) = class.span(family);
                let exact = u32::from(mss.saturating_sub(from)) * u32::from(PARTS) / u32::from(width);
                assert_eq!(u32::from(part), exact.min(u32::from(PARTS) - 1), "{mss}");
                let (rough, fine) = (class.size(0, family), class.size(part, family));
                assert!(rough <= fine && fine <= mss.max(least), "{mss}: {rough}, {fine}");
                assert_eq!(Class::from_bits(class.bits()), Some(class));
                assert!(class.rough().bits() <= class.bits() && class.rough().rough() == class.rough());
                // A part is at most a sixteenth of the way to the next class.
                let width = class.span(family).1;
                assert!(mss.max(least) - fine <= width.div_ceil(PARTS), "{mss}: {fine}");
            }
        }
    }

    #[test]
    fn what_most_hosts_name_is_told_exactly() {
        for (mss, family) in [(536, Family::V4), (1460, Family::V4), (8960, Family::V4), (1440, Family::V6)] {
            let (class, _) = Class::of(mss, family);
            assert_eq!(class.size(0, family), mss);
            assert_eq!(class.rough().size(0, family), mss.min(1460));
        }
        assert_eq!(Class::from_bits(7), None);
    }
}
