//! Switches off what the kernel leaves to a device: checksums and segmentation, through the kernel's `ethtool` interface over generic
//! netlink (`linux/ethtool_netlink.h`).

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};

const REQUEST_WITH_ACK: u16 = 1 | 4;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
/// The controller of generic netlink, which knows the families' numbers.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FEATURES_SET: u8 = 12;
/// What a veth does for its kernel, and what it would take from the other end.
const FEATURES: [&str; 8] = [
    "tx-checksum-ip-generic",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
    "tx-scatter-gather",
];

/// Switches the features off on an interface of the calling thread's namespace.
pub(crate) fn switch_off(device: &str) {
    let name = attribute(FAMILY_NAME, b"ethtool\0");
    let answer = ask(CONTROLLER, GET_FAMILY, &name);
    let family = find(answer.get(20..).unwrap_or_default(), FAMILY_ID).expect("the kernel has ethtool");
    let family = u16::from_ne_bytes(family.try_into().expect("a number of 16 bits"));

    // Each feature is named and, having no value, off.
    let bit = |name: &&str| attribute(1 | NESTED, &attribute(2, format!("{name}\0").as_bytes()));
    let bits: Vec<u8> = FEATURES.iter().flat_map(bit).collect();
    let header = attribute(1 | NESTED, &attribute(2, format!("{device}\0").as_bytes()));
    let wanted = attribute(3 | NESTED, &attribute(3 | NESTED, &bits));
    let answer = ask(family, FEATURES_SET, &[header, wanted].concat());
    // An acknowledgement is an error number of 0; before it there may be the list of what changed.
    let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    let errno = answer.get(16..20).map(|errno| i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]));
    assert!(kind != Some(ERROR) || errno == Some(0), "{device}: error {errno:?} on switching offloads off");
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(&[len0, len1, kind0, kind1]) = attributes.first_chunk() {
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        if u16::from_ne_bytes([kind0, kind1]) & !NESTED == wanted {
            return attributes.get(4..len);
        }
        attributes = attributes.get(len.next_multiple_of(4).max(4)..)?;
    }
    None
}

/// The first answer to one message.
fn ask(kind: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::GENERIC))
        .expect("root may open a netlink socket");
    let mut message = ((20 + attributes.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    rustix::net::send(&socket, &message, SendFlags::empty()).expect("the kernel listens");
    let mut answer = vec![0; 65536];
    let (len, _) =
        rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).expect("the kernel answers");
    answer.truncate(len);
    answer
}
