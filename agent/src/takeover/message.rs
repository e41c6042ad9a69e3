//! The netlink messages of the takeover, built once: add and delete for each address, and the dump that shows what
//! is there. Only the sequence number changes when one is sent.

use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// Where the sequence number stands in a message (struct nlmsghdr).
const SEQUENCE_AT: std::ops::Range<usize> = 8..12;

/// One message as it goes to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Box<[u8]>);

impl Message {
    /// Adds `address` with `prefix` to the interface with `index`: no route for the prefix (the interface's own address
    /// has it), and no duplicate address detection, which would keep an IPv6 address silent for a second.
    pub fn add(address: IpAddr, prefix: u8, index: u32) -> Self {
        let mut message = addressed(address, prefix, index);
        let mut flags = AddressFlags::Noprefixroute;
        if address.is_ipv6() {
            flags |= AddressFlags::Nodad;
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        Self::build(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Deletes it.
    pub fn delete(address: IpAddr, prefix: u8, index: u32) -> Self {
        Self::build(RouteNetlinkMessage::DelAddress(addressed(address, prefix, index)), NLM_F_ACK)
    }

    /// Lists all addresses of both families.
    pub fn dump() -> Self {
        Self::build(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)
    }

    /// The bytes, carrying `sequence`.
    pub fn with_sequence(&mut self, sequence: u32) -> &[u8] {
        if let Some(place) = self.0.get_mut(SEQUENCE_AT) {
            place.copy_from_slice(&sequence.to_ne_bytes());
        }
        &self.0
    }

    /// A request with these flags; the sequence number comes when it is sent.
    pub(crate) fn build(payload: RouteNetlinkMessage, flags: u16) -> Self {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(payload));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Self(bytes.into_boxed_slice())
    }
}

fn addressed(address: IpAddr, prefix: u8, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn add_of_an_ipv4_address() {
        let mut message = Message::add("10.0.0.100".parse().expect("an address"), 24, 7);
        let expected = [
            48, 0, 0, 0, // length
            20, 0, 0x05, 0x06, // RTM_NEWADDR; request, ack, excl, create
            0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, // sequence, port
            2, 24, 0, 0, 7, 0, 0, 0, // ifaddrmsg: family, prefix, flags, scope, index
            8, 0, 2, 0, 10, 0, 0, 100, // IFA_LOCAL
            8, 0, 1, 0, 10, 0, 0, 100, // IFA_ADDRESS
            8, 0, 8, 0, 0, 2, 0, 0, // IFA_FLAGS: noprefixroute
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(message.with_sequence(0x1122_3344), expected);
        }
    }

    #[test]
    fn delete_of_an_ipv6_address_and_no_dad_when_it_is_added() {
        let address = "2001:db8::64".parse().expect("an address");
        let mut delete = Message::delete(address, 128, 3);
        let bytes = delete.with_sequence(1).to_vec();
        assert_eq!(bytes.len(), 16 + 8 + 20 + 20);
        assert_eq!(bytes[4..6], 21u16.to_ne_bytes(), "RTM_DELADDR");
        assert_eq!(bytes[16..18], [10, 128]);

        let mut add = Message::add(address, 128, 3);
        let bytes = add.with_sequence(1);
        assert_eq!(bytes[18], 2, "IFA_F_NODAD in the header");
        assert_eq!(bytes[bytes.len() - 4..], 0x202u32.to_ne_bytes(), "noprefixroute and nodad");
    }

    #[test]
    fn dump_asks_for_all_families() {
        let mut dump = Message::dump();
        let bytes = dump.with_sequence(9);
        assert_eq!(bytes[4..6], 22u16.to_ne_bytes(), "RTM_GETADDR");
        assert_eq!(bytes[16], 0, "AF_UNSPEC");
    }
}
