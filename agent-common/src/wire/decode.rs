//! From an authentic body to a heartbeat. Total: any bytes give a heartbeat or a reason.
//! Strict where leniency would let two readers disagree: rows stand in order, once each, and ids are in range.

use crate::beat::{Ack, Beat, Claim, Echo, NAME_MAX, Name, NodeState};
use crate::ids::{GroupId, LinkId, MAX_GROUPS, MAX_NODES, NodeId, NodeSet};
use crate::reject::Reject;

use super::{
    BODY_MAX, BODY_MIN, FLAGS_MASK, HEADER_LEN, MAGIC, SCORE_SHIFT, SECTION_ACKS, SECTION_ECHO, SECTION_NAME,
    SECTION_VIEW, SECTION_VOTES, SECTIONS, VERSION, at,
};

/// Reads a body, tag cut off, that has passed the validation.
///
/// # Errors
/// [`Reject::Length`], [`Reject::Magic`], [`Reject::Version`], [`Reject::Node`], [`Reject::Sections`].
pub fn decode(body: &[u8]) -> Result<Beat, Reject> {
    let mut beat = Beat::empty(NodeId::FIRST);
    decode_into(body, &mut beat)?;
    Ok(beat)
}

/// Reads a body into a heartbeat that is there already, without copying it around.
///
/// # Errors
/// As [`decode`]; `beat` is unchanged then.
pub fn decode_into(body: &[u8], beat: &mut Beat) -> Result<(), Reject> {
    if body.len() < BODY_MIN || body.len() > BODY_MAX || body.len() % 64 != 55 {
        return Err(Reject::Length);
    }
    // Once to see that all of it parses, once to keep it.
    let (node, state) = check(body)?;
    let mut reader = Reader { rest: body.get(at::CLUSTER + 4..).ok_or(Reject::Length)? };
    beat.node = node;
    beat.state = state;
    let [flags, sections] = reader.take()?;
    beat.flags = flags & FLAGS_MASK;
    beat.score = flags >> SCORE_SHIFT;
    beat.vote_number = u16::from_be_bytes(reader.take()?);
    beat.incarnation = reader.u64()?;
    beat.seq = reader.u64()?;
    beat.sent_ns = reader.u64()?;
    beat.keepalive_us = reader.u32()?;
    beat.deadtime_us = reader.u32()?;
    beat.votes_version = reader.u32()?;
    let _screen = reader.u64()?;
    take_sections(&mut reader, sections, Some(beat))
}

fn check(body: &[u8]) -> Result<(NodeId, NodeState), Reject> {
    let mut reader = Reader { rest: body };
    if reader.take::<3>()? != MAGIC {
        return Err(Reject::Magic);
    }
    let [version, _key, node, _link, state] = reader.take()?;
    if version != VERSION {
        return Err(Reject::Version);
    }
    let node = NodeId::new(node).ok_or(Reject::Node)?;
    let state = NodeState::from_raw(state).ok_or(Reject::Sections)?;
    let sections = body.get(at::SECTIONS).copied().ok_or(Reject::Length)?;
    let mut reader = Reader { rest: body.get(HEADER_LEN..).ok_or(Reject::Length)? };
    take_sections(&mut reader, sections, None)?;
    Ok((node, state))
}

/// Walks the sections; with a heartbeat to fill, fills it.
fn take_sections(reader: &mut Reader<'_>, sections: u8, mut beat: Option<&mut Beat>) -> Result<(), Reject> {
    if sections & !SECTIONS != 0 {
        return Err(Reject::Sections);
    }
    let acked = if sections & SECTION_ACKS != 0 { NodeSet(reader.u32()?) } else { NodeSet::EMPTY };
    if let Some(beat) = beat.as_deref_mut() {
        beat.acked = acked;
        beat.acks.fill(Ack::default());
    }
    for node in acked.iter() {
        let ack = Ack { incarnation: reader.u64()?, seq: reader.u64()?, table: reader.u32()? };
        if let Some(place) = beat.as_deref_mut().and_then(|beat| beat.acks.get_mut(node.index())) {
            *place = ack;
        }
    }
    let view = if sections & SECTION_VIEW != 0 { Some(NodeSet(reader.u32()?)) } else { None };
    if let Some(beat) = beat.as_deref_mut() {
        beat.view = view;
        beat.has_claims = sections & SECTION_VOTES != 0;
        beat.claims.fill(Claim::default());
    }
    if sections & SECTION_VOTES != 0 {
        take_claims(reader, beat.as_deref_mut())?;
    }
    let echo = if sections & SECTION_ECHO != 0 { Some(take_echo(reader)?) } else { None };
    let name = if sections & SECTION_NAME != 0 { take_name(reader)? } else { Name::NONE };
    if let Some(beat) = beat {
        beat.echo = echo;
        beat.name = name;
    }
    Ok(())
}

fn take_claims(reader: &mut Reader<'_>, mut beat: Option<&mut Beat>) -> Result<(), Reject> {
    let [rows] = reader.take()?;
    if usize::from(rows) > MAX_GROUPS {
        return Err(Reject::Sections);
    }
    let mut lowest = 0;
    for _ in 0..rows {
        let [group, flags, candidate] = reader.take()?;
        let claim = Claim { epoch: reader.u64()?, candidate, flags };
        let id = GroupId::new(group).filter(|_| group >= lowest).ok_or(Reject::Sections)?;
        if NodeId::new(candidate).is_none() || !claim.is_some() {
            return Err(Reject::Sections);
        }
        lowest = group + 1;
        if let Some(place) = beat.as_deref_mut().and_then(|beat| beat.claims.get_mut(id.index())) {
            *place = claim;
        }
    }
    Ok(())
}

fn take_echo(reader: &mut Reader<'_>) -> Result<Echo, Reject> {
    let [link] = reader.take()?;
    let link = LinkId::new(link).ok_or(Reject::Sections)?;
    let mut echo = Echo { link, nodes: NodeSet(reader.u32()?), delay_ns: [0; MAX_NODES] };
    for node in echo.nodes.iter() {
        let delay_ns = i64::from_be_bytes(reader.take()?);
        if let Some(place) = echo.delay_ns.get_mut(node.index()) {
            *place = delay_ns;
        }
    }
    Ok(echo)
}

fn take_name(reader: &mut Reader<'_>) -> Result<Name, Reject> {
    let [len] = reader.take()?;
    if usize::from(len) > NAME_MAX {
        return Err(Reject::Sections);
    }
    let bytes = reader.bytes(usize::from(len))?;
    core::str::from_utf8(bytes).ok().and_then(Name::new).ok_or(Reject::Sections)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Reject> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Reject::Sections)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Reject::Sections)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32, Reject> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Reject> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}
