//! Actions as `ovs-ofctl` writes them.

use std::fmt::{self, Display, Formatter};

use bytes::Bytes;

use super::select::{BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS};
use super::{
    Action, Bundle, Controller2, Ct, CtZone, Encap, EncapProperty, Learn, LearnDst, LearnSpec, LearnSrc,
    Multipath, Nat, Sample, SampleId,
};
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
            Self::PushPbb(ethertype) => write!(f, "push_pbb:{ethertype:#06x}"),
            Self::PopPbb => f.write_str("pop_pbb"),
            Self::SetMplsTtl(ttl) => write!(f, "set_mpls_ttl({ttl})"),
            Self::DecMplsTtl => f.write_str("dec_mpls_ttl"),
            Self::CopyTtlOut => f.write_str("copy_ttl_out"),
            Self::CopyTtlIn => f.write_str("copy_ttl_in"),
            Self::DecNshTtl => f.write_str("dec_nsh_ttl"),
            Self::Encap(encap) => write!(f, "{encap}"),
            Self::Decap(Encap::USE_NEXT_PROTO) => f.write_str("decap()"),
            Self::Decap(kind) => {
                write!(f, "decap(packet_type(ns={},type={}))", kind >> 16, CHex((kind & 0xffff).into()))
            }
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
            Self::Bundle(bundle) => write!(f, "{bundle}"),
            Self::Multipath(multipath) => write!(f, "{multipath}"),
            Self::Sample(sample) => write!(f, "{sample}"),
            Self::WriteMetadata { metadata, mask } => write_metadata(f, *metadata, *mask),
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

/// `write_metadata:0x5/0xff`, as an action and as an instruction.
pub(crate) fn write_metadata(f: &mut Formatter<'_>, metadata: u64, mask: u64) -> fmt::Result {
    write!(f, "write_metadata:{}", CHex(metadata.into()))?;
    if mask == u64::MAX { Ok(()) } else { write!(f, "/{}", CHex(mask.into())) }
}

/// The name at an index; what `ovs-ofctl` writes if there is none.
fn name_at(names: &[&'static str], i: u16) -> &'static str {
    names.get(usize::from(i)).unwrap_or(&"<unknown>")
}

impl Display for Bundle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (fields, algorithm) =
            (name_at(&HASH_FIELDS, self.fields), name_at(&BUNDLE_ALGORITHMS, self.algorithm));
        let name = if self.dst.is_some() { "bundle_load" } else { "bundle" };
        write!(f, "{name}({fields},{},{algorithm},ofport,", self.basis)?;
        if let Some((field, ofs, n_bits)) = self.dst {
            write!(f, "{},", Bits(field, ofs, n_bits))?;
        }
        let members: Vec<_> = self.members.iter().map(PortNo::to_string).collect();
        write!(f, "members:{})", members.join(","))
    }
}

impl Display for Multipath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let fields = name_at(&HASH_FIELDS, self.fields);
        let algorithm = name_at(&MULTIPATH_ALGORITHMS, self.algorithm);
        let (field, ofs, n_bits) = self.dst;
        let (links, dst) = (u32::from(self.max_link) + 1, Bits(field, ofs, n_bits));
        write!(f, "multipath({fields},{},{algorithm},{links},{},{dst})", self.basis, self.arg)
    }
}

impl Display for Sample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "sample(probability={},collector_set_id={}", self.probability, self.collector_set_id)?;
        write!(f, ",obs_domain_id={},obs_point_id={}", self.obs_domain_id, self.obs_point_id)?;
        if self.sampling_port != PortNo::ANY {
            write!(f, ",sampling_port={}", self.sampling_port)?;
        }
        f.write_str(match self.direction {
            Self::INGRESS => ",ingress)",
            Self::EGRESS => ",egress)",
            _ => ")",
        })
    }
}

impl Display for SampleId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Immediate(id) => write!(f, "{id}"),
            Self::Field { field, ofs, n_bits } => write!(f, "{}", Bits(field, ofs, n_bits)),
        }
    }
}

impl Display for Encap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, kind)| *kind == self.packet_type);
        write!(f, "encap({}", name.map_or("UNKNOWN", |(name, _)| name))?;
        if !self.properties.is_empty() {
            let properties: Vec<_> = self.properties.iter().map(EncapProperty::to_string).collect();
            write!(f, "({})", properties.join(","))?;
        }
        f.write_str(")")
    }
}

impl Display for EncapProperty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NshMdType(md_type) => write!(f, "md_type={md_type}"),
            Self::NshTlv { class, kind, value } => {
                write!(f, "tlv({class:#06x},{kind},")?;
                write_hex(f, value)?;
                f.write_str(")")
            }
            Self::Other { class, kind, body } => write!(f, "property({class},{kind},{})", Dotted(body)),
        }
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
            _ => write!(f, "{field}[{ofs}..{}]", (u32::from(ofs) + u32::from(n_bits)).saturating_sub(1)),
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
