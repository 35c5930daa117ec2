//! Actions as `ovs-ofctl` writes them.

use std::fmt::{self, Display, Formatter};

use bytes::Bytes;

use super::{Action, Controller2, Ct, CtZone, Learn, LearnDst, LearnSpec, LearnSrc, Nat};
use crate::PortNo;
use crate::match_text::CHex;
use crate::oxm::{Oxm, OxmField, write_hex, write_value};

/// `drop` for no actions at all.
pub(crate) fn write_list(f: &mut Formatter<'_>, actions: &[Action]) -> fmt::Result {
    let Some((first, rest)) = actions.split_first() else {
        return f.write_str("drop");
    };
    write!(f, "{first}")?;
    rest.iter().try_for_each(|action| write!(f, ",{action}"))
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { port: PortNo::CONTROLLER, max_len } => write!(f, "CONTROLLER:{max_len}"),
            Self::Output { port, .. } if port.name().is_some() => write!(f, "{port}"),
            Self::Output { port, .. } => write!(f, "output:{port}"),
            Self::SetField(oxm) => write!(f, "set_field:{oxm}"),
            Self::CopyField { n_bits, src_offset, dst_offset, src, dst } => {
                let (src, dst) = (Bits(*src, *src_offset, *n_bits), Bits(*dst, *dst_offset, *n_bits));
                write!(f, "move:{src}->{dst}")
            }
            Self::Group(id) => write!(f, "group:{id}"),
            Self::SetQueue(queue) => write!(f, "set_queue:{queue}"),
            Self::PopQueue => f.write_str("pop_queue"),
            Self::Meter(id) => write!(f, "meter:{id}"),
            Self::PushVlan(ethertype) => write!(f, "push_vlan:{ethertype:#x}"),
            Self::PopVlan => f.write_str("pop_vlan"),
            Self::PushMpls(ethertype) => write!(f, "push_mpls:{ethertype:#06x}"),
            Self::PopMpls(ethertype) => write!(f, "pop_mpls:{ethertype:#06x}"),
            Self::DecMplsTtl => f.write_str("dec_mpls_ttl"),
            Self::SetNwTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
            Self::DecNwTtl => f.write_str("dec_ttl"),
            Self::DecTtlCntIds(ids) => {
                let ids: Vec<_> = ids.iter().map(u16::to_string).collect();
                write!(f, "dec_ttl({})", ids.join(","))
            }
            Self::Resubmit { port, table: None | Some(255), ct: false } if *port != PortNo::IN_PORT => {
                write!(f, "resubmit:{port}")
            }
            Self::Resubmit { port, table, ct } => {
                let table = table.filter(|&table| table != 255).map(|table| table.to_string());
                let port = (*port != PortNo::IN_PORT).then(|| port.to_string());
                let ct = if *ct { ",ct" } else { "" };
                write!(f, "resubmit({},{}{ct})", port.unwrap_or_default(), table.unwrap_or_default())
            }
            Self::SetTunnel(key) => write!(f, "set_tunnel:{}", CHex((*key).into())),
            Self::SetTunnel64(key) => write!(f, "set_tunnel64:{}", CHex((*key).into())),
            Self::OutputReg { src, ofs, n_bits, .. } => write!(f, "output:{}", Bits(*src, *ofs, *n_bits)),
            Self::OutputTrunc { port, max_len } => write!(f, "output(port={port},max_len={max_len})"),
            Self::Learn(learn) => write!(f, "{learn}"),
            Self::Clone(actions) => {
                f.write_str("clone(")?;
                write_list(f, actions)?;
                f.write_str(")")
            }
            Self::Controller(controller) => write!(f, "{controller}"),
            Self::ControllerV1 { .. } => write!(f, "{}", self.canonical()),
            Self::Ct(ct) => write!(f, "{ct}"),
            Self::Nat(nat) => write!(f, "{nat}"),
            Self::CtClear => f.write_str("ct_clear"),
            Self::Conjunction { clause, n_clauses, id } => {
                write!(f, "conjunction({id},{}/{n_clauses})", u16::from(*clause) + 1)
            }
            Self::Note(data) => write!(f, "note:{}", Dotted(data)),
            Self::StackPush { field, ofs, n_bits } => write!(f, "push:{}", Bits(*field, *ofs, *n_bits)),
            Self::StackPop { field, ofs, n_bits } => write!(f, "pop:{}", Bits(*field, *ofs, *n_bits)),
            Self::CheckPktLarger { pkt_len, dst, ofs } => {
                write!(f, "check_pkt_larger({pkt_len})->{}", Bits(*dst, *ofs, 1))
            }
            Self::DeleteField(field) => write!(f, "delete_field:{}", Name(*field)),
            Self::FinTimeout { idle_timeout, hard_timeout } => {
                let idle = (*idle_timeout != 0).then(|| format!("idle_timeout={idle_timeout}"));
                let hard = (*hard_timeout != 0).then(|| format!("hard_timeout={hard_timeout}"));
                let both: Vec<_> = idle.into_iter().chain(hard).collect();
                write!(f, "fin_timeout({})", both.join(","))
            }
            Self::Exit => f.write_str("exit"),
            Self::Other(bytes) => write!(f, "unknown:{}", Dotted(bytes)),
        }
    }
}

impl Display for Controller2 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = Self { max_len: self.max_len, ..Self::default() };
        if *self == plain {
            return write!(f, "CONTROLLER:{}", self.max_len);
        }
        let mut parts = Vec::new();
        if self.reason != Self::REASON_ACTION {
            parts.push(match crate::message::packet_in_reason(self.reason) {
                Some(name) => format!("reason={name}"),
                None => format!("reason={}", self.reason),
            });
        }
        if self.max_len != Self::WHOLE_PACKET {
            parts.push(format!("max_len={}", self.max_len));
        }
        if self.controller_id != 0 {
            parts.push(format!("id={}", self.controller_id));
        }
        if !self.userdata.is_empty() {
            parts.push(format!("userdata={}", Dotted(&self.userdata)));
        }
        if self.pause {
            parts.push("pause".to_owned());
        }
        parts.extend(self.meter_id.map(|id| format!("meter_id={id}")));
        write!(f, "controller({})", parts.join(","))
    }
}

impl Display for Ct {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.flags & Self::COMMIT != 0 {
            parts.push("commit".to_owned());
        }
        if self.flags & Self::FORCE != 0 {
            parts.push("force".to_owned());
        }
        parts.extend(self.table.map(|table| format!("table={table}")));
        match self.zone {
            CtZone::Immediate(0) => {}
            CtZone::Immediate(zone) => parts.push(format!("zone={zone}")),
            CtZone::Field { field, ofs, n_bits } => parts.push(format!("zone={}", Bits(field, ofs, n_bits))),
        }
        let exec = match self.actions.split_first() {
            Some((Action::Nat(nat), rest)) => {
                parts.push(nat.to_string());
                rest
            }
            _ => &self.actions[..],
        };
        if !exec.is_empty() {
            let exec: Vec<_> = exec.iter().map(Action::to_string).collect();
            parts.push(format!("exec({})", exec.join(",")));
        }
        match self.alg {
            0 => {}
            21 => parts.push("alg=ftp".to_owned()),
            69 => parts.push("alg=tftp".to_owned()),
            port => parts.push(format!("alg={port}")),
        }
        write!(f, "ct({})", parts.join(","))
    }
}

impl Display for Nat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.flags & (Self::SRC | Self::DST) == 0 {
            return f.write_str("nat");
        }
        f.write_str(if self.flags & Self::SRC != 0 { "nat(src" } else { "nat(dst" })?;
        // A range of one is written as its only member.
        fn end<T: PartialEq + Display>(min: Option<T>, max: Option<T>) -> Option<T> {
            max.filter(|max| min.as_ref() != Some(max))
        }
        if let Some(min) = self.ipv4.0 {
            write!(f, "={min}")?;
            end(self.ipv4.0, self.ipv4.1).map_or(Ok(()), |max| write!(f, "-{max}"))?;
        }
        if let Some(min) = self.ipv6.0 {
            let (open, close) = if self.ports.0.is_some() { ("[", "]") } else { ("", "") };
            write!(f, "={open}{min}{close}")?;
            end(self.ipv6.0, self.ipv6.1).map_or(Ok(()), |max| write!(f, "-{open}{max}{close}"))?;
        }
        if let Some(min) = self.ports.0 {
            write!(f, ":{min}")?;
            end(self.ports.0, self.ports.1).map_or(Ok(()), |max| write!(f, "-{max}"))?;
        }
        for (flag, name) in
            [(Self::PERSISTENT, "persistent"), (Self::PROTO_HASH, "hash"), (Self::PROTO_RANDOM, "random")]
        {
            if self.flags & flag != 0 {
                write!(f, ",{name}")?;
            }
        }
        f.write_str(")")
    }
}

impl Display for Learn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "learn(table={}", self.table_id)?;
        for (name, seconds) in [
            ("idle_timeout", self.idle_timeout),
            ("hard_timeout", self.hard_timeout),
            ("fin_idle_timeout", self.fin_idle_timeout),
            ("fin_hard_timeout", self.fin_hard_timeout),
        ] {
            if seconds != 0 {
                write!(f, ",{name}={seconds}")?;
            }
        }
        if self.priority != crate::flow::DEFAULT_PRIORITY {
            write!(f, ",priority={}", self.priority)?;
        }
        for (flag, name) in [(Self::SEND_FLOW_REM, "send_flow_rem"), (Self::DELETE_LEARNED, "delete_learned")]
        {
            if self.flags & flag != 0 {
                write!(f, ",{name}")?;
            }
        }
        if self.cookie != 0 {
            write!(f, ",cookie={:#x}", self.cookie)?;
        }
        if self.limit != 0 {
            write!(f, ",limit={}", self.limit)?;
        }
        if let Some((field, ofs)) = self.result {
            write!(f, ",result_dst={}", Bits(field, ofs, 1))?;
        }
        self.specs.iter().try_for_each(|spec| write!(f, ",{spec}"))?;
        f.write_str(")")
    }
}

impl Display for LearnSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bits = |field, ofs| Bits(field, ofs, self.n_bits);
        match (&self.src, self.dst) {
            (LearnSrc::Immediate(value), LearnDst::Match(field, ofs)) => match field.info() {
                Some(info) if ofs == 0 && self.n_bits == info.bits => {
                    // The constant may be shorter than the field.
                    let mut bytes = vec![0; usize::from(info.bytes).saturating_sub(value.len())];
                    bytes.extend_from_slice(value);
                    write!(f, "{}=", info.name)?;
                    write_value(f, &Oxm { field, value: bytes.into(), mask: None })
                }
                _ => {
                    write!(f, "{}=", bits(field, ofs))?;
                    write_hex(f, value)
                }
            },
            (LearnSrc::Field(src, src_ofs), LearnDst::Match(field, ofs)) => {
                write!(f, "{}", bits(field, ofs))?;
                if (*src, *src_ofs) == (field, ofs) { Ok(()) } else { write!(f, "={}", bits(*src, *src_ofs)) }
            }
            (LearnSrc::Immediate(value), LearnDst::Load(field, ofs)) => {
                f.write_str("load:")?;
                write_hex(f, value)?;
                write!(f, "->{}", bits(field, ofs))
            }
            (LearnSrc::Field(src, src_ofs), LearnDst::Load(field, ofs)) => {
                write!(f, "load:{}->{}", bits(*src, *src_ofs), bits(field, ofs))
            }
            (LearnSrc::Field(src, src_ofs), LearnDst::Output) => {
                write!(f, "output:{}", bits(*src, *src_ofs))
            }
            (LearnSrc::Immediate(value), LearnDst::Output) => {
                f.write_str("output:")?;
                write_hex(f, value)
            }
        }
    }
}

/// Bits of a field: `NXM_NX_REG10[3..4]`, `[3]` for one, `[]` for all of them.
struct Bits(OxmField, u16, u16);

impl Display for Bits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(field, ofs, n_bits) = *self;
        match n_bits {
            _ if ofs == 0 && n_bits == field.bits() => write!(f, "{field}[]"),
            1 => write!(f, "{field}[{ofs}]"),
            _ => write!(f, "{field}[{ofs}..{}]", u32::from(ofs) + u32::from(n_bits) - 1),
        }
    }
}

/// The name of a field in `set_field`.
struct Name(OxmField);

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.info() {
            Some(info) => f.write_str(info.name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Bytes in hexadecimal, with dots between them.
struct Dotted<'a>(&'a Bytes);

impl Display for Dotted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut dot = "";
        self.0.iter().try_for_each(|b| write!(f, "{}{b:02x}", std::mem::replace(&mut dot, ".")))
    }
}
