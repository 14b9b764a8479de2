//! Which ports of a pod are measured, from its containers and `prescale.dev/port`; or why none can be.

use std::fmt;

use crate::annotations::{Annotation, MAX_PORTS, Port};

/// A container as far as it matters: those that run beside the application too (native sidecars), other init
/// containers not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// TCP ports that it declares, with their names.
    pub ports: Vec<(u16, Option<String>)>,
}

/// Ports to measure; empty means every port.
pub type Measured = Vec<u16>;

/// Why no port can be chosen. A wrong choice would count a proxy's requests and its application's as two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotMeasurable {
    /// More than one container serves, or might.
    SeveralContainers(Vec<String>),
    /// No container port has this name.
    NoSuchPort(String),
    /// More ports than the kernel side holds.
    TooManyPorts(usize),
}

impl fmt::Display for NotMeasurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = Annotation::Port.name();
        match self {
            Self::SeveralContainers(names) => write!(
                f,
                "the pod has several containers ({}) and nothing says which one takes the requests. Set {port} to the \
                 port that clients reach.",
                // Twenty containers' names would not fit into an Event.
                names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
            Self::NoSuchPort(name) => write!(
                f,
                "{port} names `{name}`, which no container port of the pod is called. Write the port's number, or give \
                 a container port that name."
            ),
            Self::TooManyPorts(count) => write!(
                f,
                "the container declares {count} ports, {MAX_PORTS} can be measured. Set {port} to those that clients \
                 reach."
            ),
        }
    }
}

/// The ports to measure of a pod with these `containers`.
///
/// # Errors
/// [`NotMeasurable`], with the mend.
pub fn measured(
    wanted: &[Port],
    main: Option<&str>,
    containers: &[Container],
) -> Result<Measured, NotMeasurable> {
    if !wanted.is_empty() {
        let number = |port: &Port| match port {
            Port::Number(number) => Ok(*number),
            Port::Name(name) => {
                let all = containers.iter().flat_map(|container| &container.ports);
                let mut named = all.filter(|(_, own)| own.as_deref() == Some(name));
                named.next().map(|(number, _)| *number).ok_or_else(|| NotMeasurable::NoSuchPort(name.clone()))
            }
        };
        return sorted(wanted.iter().map(number).collect::<Result<_, _>>()?);
    }
    if let Some(container) = containers.iter().find(|container| Some(container.name.as_str()) == main)
        && !container.ports.is_empty()
    {
        return sorted(container.ports.iter().map(|(port, _)| *port).collect());
    }
    let serving: Vec<&Container> = containers.iter().filter(|it| !it.ports.is_empty()).collect();
    match (serving.as_slice(), containers.len()) {
        ([one], _) => sorted(one.ports.iter().map(|(port, _)| *port).collect()),
        ([], 0 | 1) => Ok(Vec::new()),
        ([], _) => {
            Err(NotMeasurable::SeveralContainers(containers.iter().map(|it| it.name.clone()).collect()))
        }
        (several, _) => {
            Err(NotMeasurable::SeveralContainers(several.iter().map(|it| it.name.clone()).collect()))
        }
    }
}

fn sorted(mut ports: Measured) -> Result<Measured, NotMeasurable> {
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > MAX_PORTS { Err(NotMeasurable::TooManyPorts(ports.len())) } else { Ok(ports) }
}
