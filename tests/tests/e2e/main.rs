//! Prescale in a real cluster, end to end: run by `cargo xtask e2e`, inside the cluster's network.
//!
//! It is installed once, as a user does it; each test has a namespace of its own on that installation and says what it
//! measured. The order is ours, so there is no libtest here: first what wants peace, most of it at the same time, then
//! what breaks things, at last the uninstall. The last line is `N passed, N failed`. In a cluster that is not of our making
//! those that end or read the nodes' processes are left out, and named.
#![allow(clippy::print_stdout, reason = "what was measured is the output")]

mod annotations;
mod app;
mod capabilities;
mod cost;
mod counts;
mod faults;
mod floor;
mod forward;
mod install;
mod kinds;
mod kubectl;
mod prescale;
mod prometheus;
mod ramp;
mod reaction;
mod release;
mod sample;
mod scale_in;
mod state;

use std::process::ExitCode;
use std::time::Instant;

use prescale_tests::demo::machine::allow_open_files;

/// A test.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    run: fn(&Run),
    /// It ends, stops or reads processes of the nodes, or changes what all of the cluster shares: it must be this machine's.
    on_nodes: bool,
}

/// What a test is told.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    name: &'static str,
    quick: bool,
}

impl Run {
    /// Prints what was measured.
    pub fn say(&self, text: &str) {
        println!("{}: {text}", self.name);
    }

    /// How often something is done: once with `--quick`.
    pub fn times(&self, full: usize) -> usize {
        if self.quick { 1 } else { full }
    }
}

const fn case(name: &'static str, run: fn(&Run)) -> Case {
    Case { name, run, on_nodes: false }
}

const fn on_nodes(name: &'static str, run: fn(&Run)) -> Case {
    Case { name, run, on_nodes: true }
}

const FIRST: Case = case("install", install::as_a_user);
/// From the start, beside all that break nothing: it waits for minutes.
const BESIDE: Case = case("scale_in", scale_in::after_the_warm_up);
/// From the start, beside all others but the uninstall: what it waits for comes whatever else happens to Prescale.
const THROUGHOUT: Case = case("prometheus", prometheus::scrapes_everything);
/// One after the other: they measure times, or send as fast as they can.
const SHORT: [Case; 2] = [case("counts", counts::on_every_node), case("opting", reaction::opting_in_and_out)];
/// Lists that run at the same time: what is in them waits for the most part.
const CALM: [&[Case]; 3] = [
    &[
        case("notes", install::the_notes_commands_work),
        case("dry_run", install::the_server_takes_every_object),
        case("capabilities", capabilities::removed_in_turn),
    ],
    &[
        case("refusals", annotations::are_refused_with_the_mend),
        case("pause", annotations::pause),
        case("helm_test", install::helm_test),
    ],
    &[case("floor", floor::is_raised_and_given_back), KINDS],
];
/// The last of its list: KEDA's kind, which is brought at the start, must have been noticed by then.
const KINDS: Case = case("kinds", kinds::of_workloads);
/// It wants a machine that does nothing else for minutes.
const RAMP: Case = on_nodes("ramp", ramp::against_the_real_hpa);
/// They measure times, or their load takes both cores of a small machine: pods beside them that ask for little are saturated, and
/// rightly grow.
const ALONE: [Case; 4] = [
    RAMP,
    case("step", reaction::to_a_step),
    on_nodes("cost", cost::of_two_thousand_requests),
    case("sample", sample::grows_under_its_load),
];
const FAULTS: [Case; 6] = [
    on_nodes("agent_killed", faults::agent_killed),
    on_nodes("leader_killed", faults::leader_killed),
    on_nodes("api_away", faults::api_server_away),
    case("permissions", install::permissions_suffice),
    // They replace pods, whose logs the one before has read.
    on_nodes("volume", release::on_a_volume),
    case("rollback", release::upgraded_and_rolled_back),
];
const LAST: Case = case("uninstall", floor::is_given_back_by_the_uninstall);

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let quick = std::env::var_os("PRESCALE_E2E_QUICK").is_some();
    let ours = prescale::is_ours();
    let named =
        |case: &Case| filters.is_empty() || filters.iter().any(|word| case.name.contains(word.as_str()));
    let wanted = |case: &Case| named(case) && (ours || !case.on_nodes);
    let (mut passed, mut failed) = (0, 0);
    let mut count = |ok: bool| if ok { passed += 1 } else { failed += 1 };
    let installed = run(FIRST, quick);
    count(installed);
    // Without it nothing else can pass, and nothing is passed over in silence.
    let run = move |case: Case| installed && run(case, quick);
    if installed && FAULTS.iter().any(|case| case.name == "leader_killed" && wanted(case)) {
        state::remember();
    }
    if installed && wanted(&KINDS) {
        kinds::know_scaled_objects();
    }
    if installed && wanted(&RAMP) {
        allow_open_files().expect("overloaded rivals keep thousands of connections open");
        ramp::bring_metrics();
    }
    // Tests in a thread of their own, one after the other, and whether each passed.
    let aside = |cases: &[Case]| {
        let cases: Vec<Case> = cases.iter().copied().filter(wanted).collect();
        let all = cases.len();
        let thread = std::thread::spawn(move || cases.into_iter().map(run).collect::<Vec<bool>>());
        move || thread.join().unwrap_or_else(|_| vec![false; all])
    };
    let (beside, throughout) = (aside(&[BESIDE]), aside(&[THROUGHOUT]));
    SHORT.into_iter().filter(wanted).for_each(|case| count(run(case)));
    CALM.map(aside).into_iter().flat_map(|join| join()).for_each(&mut count);
    ALONE.into_iter().filter(wanted).for_each(|case| count(run(case)));
    beside().into_iter().for_each(&mut count);
    FAULTS.into_iter().filter(wanted).for_each(|case| count(run(case)));
    throughout().into_iter().for_each(&mut count);
    // In a cluster of somebody's always: nothing of ours stays.
    if wanted(&LAST) || (installed && !ours) {
        count(run(LAST));
    }
    forward::close();
    let left_out: Vec<_> =
        ALONE.iter().chain(&FAULTS).filter(|it| named(it) && !wanted(it)).map(|it| it.name).collect();
    if !left_out.is_empty() {
        println!("left out, for they need a cluster that is this machine's: {}", left_out.join(", "));
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether it passed; a test that panics has failed and has said why.
fn run(case: Case, quick: bool) -> bool {
    println!("test {} begins", case.name);
    let begin = Instant::now();
    let thread = std::thread::Builder::new().name(case.name.to_owned());
    let thread = thread.spawn(move || (case.run)(&Run { name: case.name, quick }));
    let passed = thread.is_ok_and(|thread| thread.join().is_ok());
    if !passed {
        println!("{}: what Prescale says\n{}", case.name, prescale::last_words());
    }
    let verdict = if passed { "ok" } else { "FAILED" };
    println!("test {} ... {verdict}, {:.1} s", case.name, begin.elapsed().as_secs_f64());
    passed
}
