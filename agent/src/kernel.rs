//! Loads the kernel programs, attaches them to pods' cgroups and turns their maps into [`Counters`].
//!
//! Everything hangs on file descriptors of this process (`bpf_link`): when it ends, however it ends, the kernel
//! takes the programs off.

mod requirements;
mod totals;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::cgroup_skb::{CgroupSkbAttachType, CgroupSkbLink};
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, Program, ProgramError, SockOps};
use aya::{Ebpf, EbpfLoader};
use prescale_agent_ebpf::layout::{PORTS, PROBES, Pod, Probe, SHARDS, Totals};
use prescale_core::counters::Counters;

use self::totals::{Widened, read_slot};

const _: () =
    assert!(PROBES >= prescale_core::wire::MAX_PROBES, "the kernel takes every probe that the wire carries");

/// A pod's place in the kernel's maps, from [`Kernel::attach`] until [`Kernel::detach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(u32);

/// The loaded programs and every pod they are attached to. Dropping it detaches all.
pub struct Kernel {
    totals: Array<MapData, Totals>,
    pods: HashMap<MapData, u64, Pod>,
    slots: Vec<Option<Slot>>,
    shards: u32,
    generation: u32,
    ebpf: Ebpf,
}

struct Slot {
    cgroup: u64,
    links: Links,
    widened: Widened,
}

/// Each detaches its program when it is dropped; together they are one pod's.
struct Links {
    _egress: CgroupSkbLink,
    _ingress: CgroupSkbLink,
    _sockets: SockOpsLink,
}

impl Kernel {
    /// Loads the object file `object`, with room for `max_pods` pods.
    ///
    /// # Errors
    /// Each with a sentence that says what to do: no privileges, no cgroup2, a kernel before 5.17, no object,
    /// an object with another ABI.
    pub fn load(object: &Path, max_pods: usize) -> Result<Self> {
        ensure!((1..=4096).contains(&max_pods), "room for {max_pods} pods: between 1 and 4096 are possible");
        let code = requirements::read_object(object)?;
        requirements::check_kernel()?;
        requirements::raise_capabilities()?;
        requirements::check_capabilities()?;
        requirements::check_cgroup2()?;
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?;
        let shards = cpus.next_power_of_two().min(SHARDS) as u32;
        let shard_bits = shards.trailing_zeros();
        let entries = max_pods as u32 * shards;
        let mut ebpf = EbpfLoader::new()
            .override_global("SHARD_BITS", &shard_bits, true)
            .map_max_entries("TOTALS", entries)
            .map_max_entries("PODS", max_pods as u32)
            .load(&code)
            .with_context(|| format!("loading {}", object.display()))?;
        for name in ["ingress", "egress"] {
            program::<CgroupSkb>(&mut ebpf, name)?
                .load()
                .with_context(|| format!("loading program {name}"))?;
        }
        program::<SockOps>(&mut ebpf, "sockets")?.load().context("loading program sockets")?;
        let totals = Array::try_from(ebpf.take_map("TOTALS").context("the object has no map TOTALS")?)?;
        let pods = HashMap::try_from(ebpf.take_map("PODS").context("the object has no map PODS")?)?;
        let slots = (0..max_pods).map(|_| None).collect();
        Ok(Self { totals, pods, slots, shards, generation: 0, ebpf })
    }

    /// Starts to measure the sockets of the cgroup v2 directory `directory` and of those below it.
    ///
    /// `ports` are the local ports that count; empty: all. `probes` are the request lines of the kubelet's probes, without
    /// their ends, which are counted apart.
    ///
    /// # Errors
    /// If the directory is none of cgroup v2 or gone, if it is measured already, if all slots are taken, or if
    /// another program is attached to it or above it in a way that excludes others.
    pub fn attach(&mut self, directory: &Path, ports: &[u16], probes: &[String]) -> Result<SlotId> {
        ensure!(ports.len() <= PORTS, "{} ports given: at most {PORTS} can be told apart", ports.len());
        ensure!(probes.len() <= PROBES, "{} probes given: at most {PROBES} can be told apart", probes.len());
        let cgroup = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
        requirements::check_is_cgroup2(&cgroup, directory)?;
        let id = cgroup.metadata()?.ino();
        if self.slots.iter().flatten().any(|slot| slot.cgroup == id) {
            bail!("{} is attached already", directory.display());
        }
        let index = self.slots.iter().position(Option::is_none);
        let index = index.with_context(|| format!("all {} slots are taken", self.slots.len()))? as u32;
        self.generation = self.generation.checked_add(1).context("more than 2^32 attaches")?;
        self.reset(index, self.generation)?;
        let pod = entry(index, self.generation, ports, probes)?;
        self.pods.insert(id, pod, 0).context("entering the pod into the kernel's map")?;
        match self.attach_programs(&cgroup) {
            Ok(links) => {
                let slot = Slot { cgroup: id, links, widened: Widened::default() };
                self.slots[index as usize] = Some(slot);
                Ok(SlotId(index))
            }
            Err(error) => {
                self.pods.remove(&id).context("taking the pod out of the kernel's map")?;
                Err(error.context(format!("attaching to {}", directory.display())))
            }
        }
    }

    /// The pod's counters now.
    ///
    /// # Errors
    /// If `slot` is not attached, or the kernel refuses the read.
    pub fn read(&mut self, slot: SlotId) -> Result<Counters> {
        let state = self.slots.get_mut(slot.0 as usize).and_then(Option::as_mut);
        let state = state.with_context(|| format!("slot {} is not attached", slot.0))?;
        read_slot(&self.totals, slot.0 * self.shards, self.shards, &mut state.widened)
    }

    /// Stops to measure the pod and returns its last counters; the slot is free afterwards.
    ///
    /// # Errors
    /// If `slot` is not attached, or the kernel refuses the last read; the programs are detached in any case.
    pub fn detach(&mut self, slot: SlotId) -> Result<Counters> {
        let state = self.slots.get_mut(slot.0 as usize).and_then(Option::take);
        let state = state.with_context(|| format!("slot {} is not attached", slot.0))?;
        let Slot { cgroup, links, mut widened } = state;
        drop(links);
        requirements::wait_for_running_programs();
        let removed = self.pods.remove(&cgroup);
        let last = read_slot(&self.totals, slot.0 * self.shards, self.shards, &mut widened);
        self.reset(slot.0, 0)?;
        removed.context("taking the pod out of the kernel's map")?;
        last
    }

    fn reset(&mut self, index: u32, generation: u32) -> Result<()> {
        let empty = totals::empty(generation);
        for shard in 0..self.shards {
            self.totals.set(index * self.shards + shard, *empty, 0).context("resetting a slot")?;
        }
        Ok(())
    }

    /// Responses first and requests second: a request that is counted must have its response seen. The socket
    /// events come last: until then new connections count as ones that were open already.
    fn attach_programs(&mut self, cgroup: &File) -> Result<Links> {
        Ok(Links {
            _egress: self.attach_packets("egress", cgroup, CgroupSkbAttachType::Egress)?,
            _ingress: self.attach_packets("ingress", cgroup, CgroupSkbAttachType::Ingress)?,
            _sockets: {
                let program = program::<SockOps>(&mut self.ebpf, "sockets")?;
                let link = program.attach(cgroup, CgroupAttachMode::Single).map_err(explain)?;
                program.take_link(link)?
            },
        })
    }

    fn attach_packets(
        &mut self,
        name: &str,
        cgroup: &File,
        direction: CgroupSkbAttachType,
    ) -> Result<CgroupSkbLink> {
        let program = program::<CgroupSkb>(&mut self.ebpf, name)?;
        // A link on a cgroup always allows others beside it; `AllowMultiple` is refused with EINVAL.
        let link = program.attach(cgroup, direction, CgroupAttachMode::Single).map_err(explain)?;
        Ok(program.take_link(link)?)
    }
}

/// What the kernel is told of a pod.
fn entry(slot: u32, generation: u32, ports: &[u16], probes: &[String]) -> Result<Pod> {
    let mut pod = Pod {
        slot,
        generation,
        ports_used: ports.len() as u32,
        ports: [0; PORTS],
        probes_used: probes.len() as u32,
        probes: [Probe::NONE; PROBES],
    };
    pod.ports[..ports.len()].copy_from_slice(ports);
    for (to, line) in pod.probes.iter_mut().zip(probes) {
        *to = Probe::of(line.as_bytes()).context("a probe's request line is too short to be one")?;
    }
    Ok(pod)
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Says what the commonest refusals of an attach mean.
fn explain(error: ProgramError) -> anyhow::Error {
    let code = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::EPERM) => anyhow!(error).context(
            "another program is attached to this cgroup or one above it in the old, exclusive way: \
             this pod can't be measured until that program is gone",
        ),
        Some(libc::ENOENT | libc::ENODEV) => anyhow!(error).context("the cgroup is gone"),
        _ => anyhow!(error),
    }
}
