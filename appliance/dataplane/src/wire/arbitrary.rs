//! Random packets for property tests: a plan of one, from which frames are built.

use super::testing::FrameBuilder;
use super::{TcpFlags, protocol};
use crate::addr::Addr;
use proptest::prelude::*;

/// A packet to be built.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) ttl: u8,
    pub(crate) body: Body,
    pub(crate) payload: Vec<u8>,
    /// IPv4 options: this many words of padding.
    pub(crate) option_words: usize,
    /// IPv6 extension headers of so many units of eight bytes.
    pub(crate) extensions: Vec<(u8, usize)>,
    pub(crate) padding: usize,
}

/// What a planned packet carries.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Tcp { seq: u32, ack: u32, flags: u8, window: u16, options: Vec<u8> },
    Udp { checksum: bool },
    EchoRequest { seq: u16 },
    EchoReply { seq: u16 },
    Other(u8),
}

impl Plan {
    pub(crate) fn is_v4(&self) -> bool {
        self.src.as_v4().is_some()
    }

    pub(crate) fn builder(&self) -> FrameBuilder {
        let mut builder = FrameBuilder::between(self.src.into(), self.dst.into())
            .ttl(self.ttl)
            .id(0x5eed)
            .payload(&self.payload)
            .padding(self.padding);
        if self.is_v4() {
            builder = builder.ip_options(&[1, 1, 1, 0].repeat(self.option_words));
        } else {
            for &(kind, units) in &self.extensions {
                let mut header = vec![0; 8 * units - 1];
                header[..2].copy_from_slice(&[
                    u8::try_from(units - 1).unwrap(),
                    u8::from(kind == protocol::ROUTING),
                ]);
                builder = builder.extension(kind, &header);
            }
        }
        match &self.body {
            Body::Tcp { seq, ack, flags, window, options } => builder
                .tcp(self.src_port, self.dst_port)
                .seq(*seq, *ack)
                .flags(*flags)
                .window(*window)
                .tcp_options(options),
            Body::Udp { checksum: false } if self.is_v4() => {
                builder.udp_without_checksum(self.src_port, self.dst_port)
            }
            Body::Udp { .. } => builder.udp(self.src_port, self.dst_port),
            Body::EchoRequest { seq } => builder.echo_request(self.src_port, *seq),
            Body::EchoReply { seq } => builder.echo_reply(self.dst_port, *seq),
            Body::Other(number) => builder.protocol(*number),
        }
    }
}

fn addr(v4: bool) -> BoxedStrategy<Addr> {
    if v4 {
        any::<[u8; 4]>().prop_map(Addr::v4).boxed()
    } else {
        any::<[u8; 16]>()
            .prop_map(|octets| Addr::v6([&[0x20], &octets[1..]].concat().try_into().unwrap()))
            .boxed()
    }
}

fn tcp_options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
        Just(vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 9]),
        (1usize..10).prop_map(|words| vec![1; 4 * words]),
        Just(vec![3, 3, 200, 0]),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let flags = prop_oneof![
        Just(TcpFlags::SYN),
        Just(TcpFlags::SYN | TcpFlags::ACK),
        Just(TcpFlags::ACK),
        Just(TcpFlags::FIN | TcpFlags::ACK | TcpFlags::PSH),
        Just(TcpFlags::RST | 0xc0),
    ];
    prop_oneof![
        4 => (any::<u32>(), any::<u32>(), flags, any::<u16>(), tcp_options())
            .prop_map(|(seq, ack, flags, window, options)| Body::Tcp { seq, ack, flags, window, options }),
        4 => any::<bool>().prop_map(|checksum| Body::Udp { checksum }),
        1 => any::<u16>().prop_map(|seq| Body::EchoRequest { seq }),
        1 => any::<u16>().prop_map(|seq| Body::EchoReply { seq }),
        1 => prop_oneof![Just(2), Just(47), Just(protocol::ESP), Just(132), Just(253)].prop_map(Body::Other),
    ]
}

/// Any plan that the parser accepts.
pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let extensions = (
        prop::option::of((Just(protocol::HOP_BY_HOP), 1usize..4)),
        prop::collection::vec(
            (prop_oneof![Just(protocol::DESTINATION_OPTIONS), Just(protocol::ROUTING)], 1usize..5),
            0..3,
        ),
    )
        .prop_map(|(first, rest)| first.into_iter().chain(rest).collect::<Vec<_>>());
    let headers = (0usize..5, extensions, 0usize..20);
    any::<bool>()
        .prop_flat_map(|v4| (addr(v4), addr(v4)))
        .prop_flat_map(move |(src, dst)| {
            let payload = prop::collection::vec(any::<u8>(), 0..200);
            (Just(src), Just(dst), 1u16.., 1u16.., any::<u8>(), body(), payload, headers.clone())
        })
        .prop_map(
            |(src, dst, src_port, dst_port, ttl, body, payload, (option_words, extensions, padding))| Plan {
                src,
                dst,
                src_port,
                dst_port,
                ttl,
                body,
                payload,
                option_words,
                extensions,
                padding,
            },
        )
}
