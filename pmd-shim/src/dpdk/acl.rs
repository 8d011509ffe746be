//! DPDK's own classifier, `rte_acl`: what ours is measured against. Nothing of the data path uses it.

use super::{Eal, EalError, error, ffi, log};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::ffi::CString;
use std::mem;

const FIELDS: usize = 5;
/// Headers in a call, at most.
const BURST: usize = 32;

/// What a rule matches: all five parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclRule {
    /// The protocol; `None` is every one.
    pub protocol: Option<u8>,
    /// IPv4 source prefix: address in host order, and length.
    pub source: (u32, u8),
    /// The destination's.
    pub destination: (u32, u8),
    /// Source ports from the first to the last, both included.
    pub source_ports: (u16, u16),
    /// The destination's.
    pub destination_ports: (u16, u16),
}

/// A header as `rte_acl` reads it: addresses and ports in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AclKey {
    protocol: u8,
    unused: [u8; 3],
    source: [u8; 4],
    destination: [u8; 4],
    source_port: [u8; 2],
    destination_port: [u8; 2],
}

impl AclKey {
    /// The header of an IPv4 packet.
    pub const fn new(protocol: u8, addresses: [[u8; 4]; 2], ports: [u16; 2]) -> Self {
        let [source, destination] = addresses;
        let [source_port, destination_port] = [ports[0].to_be_bytes(), ports[1].to_be_bytes()];
        Self { protocol, unused: [0; 3], source, destination, source_port, destination_port }
    }
}

/// With which instructions it looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclMethod {
    /// AVX-512, 32 headers at a time.
    Avx512X32,
    /// AVX-512, 16 headers at a time.
    Avx512X16,
    /// AVX2.
    Avx2,
}

impl AclMethod {
    /// All of them, the widest first.
    pub const ALL: [Self; 3] = [Self::Avx512X32, Self::Avx512X16, Self::Avx2];

    /// As DPDK's tools call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512X32 => "avx512x32",
            Self::Avx512X16 => "avx512x16",
            Self::Avx2 => "avx2",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::Avx512X32 => ffi::SHIM_ACL_AVX512X32,
            Self::Avx512X16 => ffi::SHIM_ACL_AVX512X16,
            Self::Avx2 => ffi::SHIM_ACL_AVX2,
        }
    }
}

/// Rules that are built and can be looked up in; the first that matches decides.
#[derive(Debug)]
pub struct Acl {
    context: NonNull<ffi::rte_acl_ctx>,
    bytes: usize,
}

/// `RTE_ACL_RULE_DEF` for five fields.
#[repr(C)]
struct Rule {
    data: ffi::rte_acl_rule_data,
    fields: [ffi::rte_acl_field; FIELDS],
}

impl Acl {
    /// Builds rules, the one that decides first in front.
    ///
    /// # Errors
    /// [`EalError`] when the environment has too little memory, or the rules are too many.
    pub fn build(_: Eal, rules: &[AclRule]) -> Result<Self, EalError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let remedy = "give it more memory";
        let count = u32::try_from(rules.len())
            .ok()
            .filter(|count| *count < ffi::SHIM_ACL_PRIORITY_MAX.cast_unsigned())
            .ok_or_else(|| EalError::check("rte_acl takes no more than 2^29 rules", "give it fewer"))?;
        let name = CString::new(format!("nva-{}", COUNT.fetch_add(1, Ordering::Relaxed))).unwrap_or_default();
        let parameters = ffi::rte_acl_param {
            name: name.as_ptr(),
            socket_id: -1,
            rule_size: size_of::<Rule>() as u32,
            max_rule_num: count.max(1),
        };
        log::keeping(|| {
            let before = allocated();
            // SAFETY: the parameters and the name in them live until the call returns, which copies them.
            let context = NonNull::new(unsafe { ffi::rte_acl_create(&parameters) })
                .ok_or_else(|| EalError::call("rte_acl_create", error::last(), remedy))?;
            let mut acl = Self { context, bytes: 0 };
            for (place, rule) in (0..count).zip(rules) {
                let rule = in_c(rule, place, count);
                // SAFETY: one rule of the size that the context was made with, which is copied.
                let outcome = unsafe {
                    ffi::rte_acl_add_rules(acl.context.as_ptr(), core::ptr::from_ref(&rule).cast(), 1)
                };
                check("rte_acl_add_rules", outcome, "this is a bug of the program")?;
            }
            // SAFETY: the context is ours alone, the configuration lives until the call returns.
            let outcome = unsafe { ffi::rte_acl_build(acl.context.as_ptr(), &configuration()) };
            check("rte_acl_build", outcome, remedy)?;
            acl.bytes = allocated().saturating_sub(before);
            Ok(acl)
        })
    }

    /// What it takes of the environment's memory, in bytes, its copy of the rules included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks up by this method from now on. Whether the processor and DPDK can.
    pub fn set_method(&mut self, method: AclMethod) -> bool {
        // SAFETY: sets a number of the environment; it fails where a command line argument has fixed it.
        unsafe { ffi::rte_vect_set_max_simd_bitwidth(ffi::SHIM_SIMD_512) };
        // SAFETY: the context is built, and nobody looks up in it meanwhile.
        unsafe { ffi::rte_acl_set_ctx_classify(self.context.as_ptr(), method.code()) == 0 }
    }

    /// The place of the first rule that matches, plus one, for each of a burst of up to 32 headers; 0 where none does.
    #[inline]
    pub fn classify(&self, keys: &[AclKey], found: &mut [u32; BURST]) {
        let mut data = [core::ptr::null::<u8>(); BURST];
        let count = keys.len().min(BURST);
        for (slot, key) in data.iter_mut().zip(keys) {
            *slot = core::ptr::from_ref(key).cast();
        }
        // SAFETY: the context is built; there are `count` pointers to headers of the size that the configuration describes, and at least
        // as many places for results. It fails only for a wrong number of categories.
        unsafe {
            ffi::rte_acl_classify(
                self.context.as_ptr(),
                data.as_mut_ptr(),
                found.as_mut_ptr(),
                count as u32,
                1,
            );
        }
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: the context is ours alone and not used again.
        unsafe { ffi::rte_acl_free(self.context.as_ptr()) };
    }
}

fn check(call: &str, outcome: i32, remedy: &'static str) -> Result<(), EalError> {
    if outcome == 0 { Ok(()) } else { Err(EalError::call(call, error::name(outcome), remedy)) }
}

/// Bytes of the environment's memory that are in use.
fn allocated() -> usize {
    let bytes = |socket| {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut stats: ffi::rte_malloc_socket_stats = unsafe { mem::zeroed() };
        // SAFETY: fills in the structure, which is borrowed for the call.
        let outcome = unsafe { ffi::rte_malloc_get_socket_stats(socket, &mut stats) };
        if outcome == 0 { stats.heap_allocsz_bytes } else { 0 }
    };
    (0..ffi::SHIM_SOCKETS_MAX).map(bytes).sum()
}

/// The fields of [`AclKey`]. The first must be a byte of its own; both ports are read together.
fn configuration() -> ffi::rte_acl_config {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut configuration: ffi::rte_acl_config = unsafe { mem::zeroed() };
    configuration.num_categories = 1;
    configuration.num_fields = FIELDS as u32;
    let fields = [
        (ffi::SHIM_ACL_BITMASK, 1, 0, mem::offset_of!(AclKey, protocol)),
        (ffi::SHIM_ACL_MASK, 4, 1, mem::offset_of!(AclKey, source)),
        (ffi::SHIM_ACL_MASK, 4, 2, mem::offset_of!(AclKey, destination)),
        (ffi::SHIM_ACL_RANGE, 2, 3, mem::offset_of!(AclKey, source_port)),
        (ffi::SHIM_ACL_RANGE, 2, 3, mem::offset_of!(AclKey, destination_port)),
    ];
    for (place, (slot, (kind, size, input, offset))) in (0..).zip(configuration.defs.iter_mut().zip(fields)) {
        *slot = ffi::rte_acl_field_def {
            type_: kind,
            size,
            field_index: place,
            input_index: input,
            offset: offset as u32,
        };
    }
    configuration
}

/// The rule at a place among so many: the earlier, the higher its priority.
fn in_c(rule: &AclRule, place: u32, count: u32) -> Rule {
    let byte = |value: u8, mask: u8| ffi::rte_acl_field {
        value: ffi::rte_acl_field_types { u8_: value },
        mask_range: ffi::rte_acl_field_types { u8_: mask },
    };
    let prefix = |(address, len): (u32, u8)| ffi::rte_acl_field {
        value: ffi::rte_acl_field_types { u32_: address },
        mask_range: ffi::rte_acl_field_types { u32_: len.into() },
    };
    let ports = |(first, last): (u16, u16)| ffi::rte_acl_field {
        value: ffi::rte_acl_field_types { u16_: first },
        mask_range: ffi::rte_acl_field_types { u16_: last },
    };
    Rule {
        data: ffi::rte_acl_rule_data {
            category_mask: 1,
            priority: (count - place).cast_signed(),
            userdata: place + 1,
        },
        fields: [
            rule.protocol.map_or_else(|| byte(0, 0), |protocol| byte(protocol, u8::MAX)),
            prefix(rule.source),
            prefix(rule.destination),
            ports(rule.source_ports),
            ports(rule.destination_ports),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::tests::eal;

    #[test]
    fn the_first_rule_that_matches_decides_by_every_method() {
        let all = AclRule {
            protocol: None,
            source: (0, 0),
            destination: (0, 0),
            source_ports: (0, u16::MAX),
            destination_ports: (0, u16::MAX),
        };
        let rules = [
            AclRule { protocol: Some(6), source: (0x0a00_0000, 8), destination_ports: (80, 90), ..all },
            AclRule { destination: (0xc000_0201, 32), source_ports: (1024, u16::MAX), ..all },
            AclRule { source: (0x0a01_0000, 16), ..all },
        ];
        let cases = [
            (AclKey::new(6, [[10, 1, 2, 3], [192, 0, 2, 1]], [2000, 85]), 1),
            (AclKey::new(17, [[10, 1, 2, 3], [192, 0, 2, 1]], [1024, 85]), 2),
            (AclKey::new(6, [[10, 1, 2, 3], [192, 0, 2, 1]], [1023, 91]), 3),
            (AclKey::new(6, [[10, 2, 2, 3], [192, 0, 2, 1]], [1023, 91]), 0),
        ];
        let mut acl = Acl::build(eal(), &rules).unwrap();
        assert!(acl.bytes() > 0);
        let mut methods = 0;
        for method in AclMethod::ALL {
            if !acl.set_method(method) {
                continue;
            }
            methods += 1;
            for count in [1, 4, 31, 32] {
                let keys: Vec<AclKey> = cases.iter().cycle().take(count).map(|(key, _)| *key).collect();
                let mut found = [u32::MAX; 32];
                acl.classify(&keys, &mut found);
                for (place, (found, (_, expected))) in
                    found.iter().zip(cases.iter().cycle()).take(count).enumerate()
                {
                    assert_eq!(found, expected, "{} {place} of {count}", method.name());
                }
                assert!(found[count..].iter().all(|found| *found == u32::MAX));
            }
        }
        assert!(methods > 0 || !std::arch::is_x86_feature_detected!("avx2"));
    }
}
