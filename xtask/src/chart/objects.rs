//! What an API server would not tell until it is too late: names in rendered objects that lead nowhere, containers that
//! may do more than they need.

use std::collections::BTreeSet;

use serde_json::Value;

/// Everything that is wrong with the objects of one rendering.
pub fn complaints(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for object in objects {
        let name = name_of(object);
        let complete = object["apiVersion"].is_string() && object["kind"].is_string();
        if !complete || text(object, "/metadata/name").is_empty() {
            found.push(format!("{name}: no apiVersion, kind or name"));
        }
        if !names.insert((name.clone(), text(object, "/metadata/namespace").to_owned())) {
            found.push(format!("{name} is there twice"));
        }
        let mut complain = |what: String| found.push(format!("{name}: {what}"));
        labels(object, &mut complain);
        rules(object, &mut complain);
        bindings(objects, object, &mut complain);
        selectors(objects, object, &mut complain);
        if let Some(template) = template(object) {
            pods(objects, object, template, &mut complain);
        }
    }
    found
}

fn name_of(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn exists(objects: &[Value], kind: &str, name: &str) -> bool {
    objects.iter().any(|it| it["kind"] == kind && text(it, "/metadata/name") == name)
}

/// Labels must be short strings: a number or a long version is refused by the API server.
fn labels(object: &Value, complain: &mut impl FnMut(String)) {
    for pointer in ["/metadata/labels", "/spec/template/metadata/labels"] {
        for (key, value) in object.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
            if value.as_str().is_none_or(|it| it.len() > 63) {
                complain(format!("the label {key} has the value {value}"));
            }
        }
    }
}

/// Nothing is allowed by a star.
fn rules(object: &Value, complain: &mut impl FnMut(String)) {
    for rule in list(object, "/rules") {
        let stars =
            ["/apiGroups", "/resources", "/verbs"].iter().any(|part| list(rule, part).any(|it| it == "*"));
        if stars {
            complain(format!("allows everything: {rule}"));
        }
    }
}

fn bindings(objects: &[Value], object: &Value, complain: &mut impl FnMut(String)) {
    if !text(object, "/kind").ends_with("RoleBinding") {
        return;
    }
    let (kind, name) = (text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    // Kubernetes' own roles are there before us.
    if !exists(objects, kind, name) && !name.starts_with("system:") {
        complain(format!("binds the {kind} {name}, which is not there"));
    }
    for subject in list(object, "/subjects") {
        let (kind, name) = (text(subject, "/kind"), text(subject, "/name"));
        if !exists(objects, kind, name) || text(subject, "/namespace").is_empty() {
            complain(format!("binds to the {kind} {name}, which is not there"));
        }
    }
}

/// The pod template that an object carries; a Pod is its own.
fn template(object: &Value) -> Option<&Value> {
    match text(object, "/kind") {
        "Pod" => Some(object),
        _ => object.pointer("/spec/template").filter(|it| it.pointer("/spec/containers").is_some()),
    }
}

/// Whether `labels` (a selector's `matchLabels`) are among those of `of`.
fn selects(labels: &Value, of: &Value) -> bool {
    let wanted = labels.as_object();
    wanted.is_some_and(|it| {
        !it.is_empty() && it.iter().all(|(key, value)| of["metadata"]["labels"].get(key) == Some(value))
    })
}

/// What selects pods or Services selects some, and the ports that it names are theirs.
fn selectors(objects: &[Value], object: &Value, complain: &mut impl FnMut(String)) {
    let (pointer, ports, of_services) = match text(object, "/kind") {
        "Service" => ("/spec/selector", "/spec/ports", false),
        "PodDisruptionBudget" => ("/spec/selector/matchLabels", "", false),
        "NetworkPolicy" => ("/spec/podSelector/matchLabels", "/spec/ingress/0/ports", false),
        "ServiceMonitor" => ("/spec/selector/matchLabels", "/spec/endpoints", true),
        "PodMonitor" => ("/spec/selector/matchLabels", "/spec/podMetricsEndpoints", false),
        _ => return,
    };
    let none = Value::Null;
    let labels = object.pointer(pointer).unwrap_or(&none);
    let selected: Vec<&Value> = if of_services {
        objects.iter().filter(|it| it["kind"] == "Service" && selects(labels, it)).collect()
    } else {
        objects.iter().filter_map(template).filter(|it| selects(labels, it)).collect()
    };
    if selected.is_empty() {
        complain(format!("selects nothing: {labels}"));
    }
    let known: BTreeSet<&str> = if of_services {
        selected.iter().flat_map(|it| list(it, "/spec/ports")).map(|it| text(it, "/name")).collect()
    } else {
        selected.iter().flat_map(|it| port_names(it)).collect()
    };
    for port in list(object, ports) {
        let named =
            if port.get("targetPort").is_some() { text(port, "/targetPort") } else { text(port, "/port") };
        if !named.is_empty() && !known.contains(named) {
            complain(format!("names the port {named}; there are {known:?}"));
        }
    }
}

fn port_names(template: &Value) -> Vec<&str> {
    let containers = list(template, "/spec/containers");
    containers.flat_map(|it| list(it, "/ports")).map(|port| text(port, "/name")).collect()
}

fn pods(objects: &[Value], object: &Value, template: &Value, complain: &mut impl FnMut(String)) {
    if let Some(labels) = object.pointer("/spec/selector/matchLabels")
        && !selects(labels, template)
    {
        complain("selects other pods than it makes".into());
    }
    let service = text(object, "/spec/serviceName");
    if !service.is_empty() && !exists(objects, "Service", service) {
        complain(format!("the Service {service} is not there"));
    }
    let account = text(template, "/spec/serviceAccountName");
    // Without one of its own a pod has the namespace's, and then no token of it.
    let tokenless = account.is_empty() && template["spec"]["automountServiceAccountToken"] == false;
    if !tokenless && !exists(objects, "ServiceAccount", account) {
        complain(format!("the ServiceAccount `{account}` is not there"));
    }
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        if template["spec"].get(host).is_some_and(|it| it == true) {
            complain(format!("is in the host's namespaces: {host}"));
        }
    }
    let volumes: BTreeSet<&str> = list(template, "/spec/volumes")
        .map(|it| text(it, "/name"))
        .chain(list(object, "/spec/volumeClaimTemplates").map(|it| text(it, "/metadata/name")))
        .collect();
    let mut mounted = BTreeSet::new();
    for container in list(template, "/spec/containers").chain(list(template, "/spec/initContainers")) {
        mounted.extend(list(container, "/volumeMounts").map(|it| text(it, "/name")));
        self::container(container, complain);
    }
    if volumes != mounted {
        complain(format!("has the volumes {volumes:?} and mounts {mounted:?}"));
    }
    for volume in list(template, "/spec/volumes") {
        let map = text(volume, "/configMap/name");
        if !map.is_empty() && !exists(objects, "ConfigMap", map) {
            complain(format!("the ConfigMap {map} is not there"));
        }
        let secret = text(volume, "/secret/secretName");
        // cert-manager makes a Certificate's.
        let made =
            || objects.iter().any(|it| it["kind"] == "Certificate" && text(it, "/spec/secretName") == secret);
        if !secret.is_empty() && !exists(objects, "Secret", secret) && !made() {
            complain(format!("the Secret {secret} is not there"));
        }
    }
}

fn container(container: &Value, complain: &mut impl FnMut(String)) {
    let name = text(container, "/name");
    let ports: BTreeSet<&str> = list(container, "/ports").map(|it| text(it, "/name")).collect();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let port = text(container, &format!("/{probe}/httpGet/port"));
        if !port.is_empty() && !ports.contains(port) {
            complain(format!("{name}: the {probe} asks the port {port}; there are {ports:?}"));
        }
    }
    let security = &container["securityContext"];
    let locked = security["allowPrivilegeEscalation"] == false
        && security["readOnlyRootFilesystem"] == true
        && security["runAsNonRoot"] == true
        && security["seccompProfile"]["type"] == "RuntimeDefault"
        && list(security, "/capabilities/drop").any(|it| it == "ALL");
    if !locked {
        complain(format!("{name}: not locked down: {security}"));
    }
    let added: Vec<&str> = list(security, "/capabilities/add").filter_map(Value::as_str).collect();
    if !added.is_empty() && added != ["BPF", "NET_ADMIN", "PERFMON"] {
        complain(format!("{name}: has the capabilities {added:?}"));
    }
    if container.pointer("/resources/limits/memory").is_none() {
        complain(format!("{name}: no limit of memory"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chart() -> Vec<Value> {
        let labels = json!({"app": "web"});
        let security = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]},
        });
        vec![
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": labels}, "spec": {
                "selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            }}),
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
                "serviceName": "web",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "serviceAccountName": "web",
                    "containers": [{
                        "name": "web", "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
                        "resources": {"limits": {"memory": "1Mi"}},
                        "securityContext": security,
                    }],
                    "volumes": [{"name": "state", "emptyDir": {}}],
                }},
            }}),
            json!({"apiVersion": "x/v1", "kind": "Role", "metadata": {"name": "web"}, "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            ]}),
            json!({"apiVersion": "x/v1", "kind": "RoleBinding", "metadata": {"name": "web"},
                "roleRef": {"kind": "Role", "name": "web"},
                "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "n"}],
            }),
            json!({"apiVersion": "m/v1", "kind": "ServiceMonitor", "metadata": {"name": "web"}, "spec": {
                "selector": {"matchLabels": labels}, "endpoints": [{"port": "http"}],
            }}),
        ]
    }

    #[test]
    fn nothing_is_wrong_with_a_chart_whose_names_resolve() {
        assert_eq!(complaints(&chart()), Vec::<String>::new());
    }

    #[test]
    fn each_name_that_leads_nowhere_is_told() {
        let container = "/spec/template/spec/containers/0";
        let cases = [
            (0, "/metadata/name".to_owned(), json!("other"), "ServiceAccount `web`"),
            (1, "/metadata/name".to_owned(), json!("other"), "Service web"),
            (1, "/spec/selector".to_owned(), json!({"app": "other"}), "selects nothing"),
            (1, "/spec/ports/0/targetPort".to_owned(), json!("other"), "port other"),
            (1, "/metadata/labels/app".to_owned(), json!(1), "label app"),
            (2, "/spec/selector/matchLabels".to_owned(), json!({"app": "other"}), "other pods"),
            (2, format!("{container}/readinessProbe/httpGet/port"), json!("other"), "port other"),
            (2, format!("{container}/volumeMounts/0/name"), json!("other"), "volumes"),
            (2, format!("{container}/securityContext/runAsNonRoot"), json!(false), "locked"),
            (
                2,
                format!("{container}/securityContext/capabilities"),
                json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
                "SYS_ADMIN",
            ),
            (2, format!("{container}/resources/limits"), json!({}), "memory"),
            (
                2,
                "/spec/template/spec/volumes/0".to_owned(),
                json!({"name": "state", "configMap": {"name": "other"}}),
                "ConfigMap other",
            ),
            (
                2,
                "/spec/template/spec/volumes/0".to_owned(),
                json!({"name": "state", "secret": {"secretName": "other"}}),
                "Secret other",
            ),
            (3, "/rules/0/verbs".to_owned(), json!(["*"]), "everything"),
            (4, "/roleRef/name".to_owned(), json!("other"), "Role other"),
            (4, "/subjects/0/name".to_owned(), json!("other"), "ServiceAccount other"),
            (5, "/spec/endpoints/0/port".to_owned(), json!("other"), "port other"),
            (5, "/metadata/name".to_owned(), json!(""), "name"),
        ];
        for (object, pointer, value, said) in cases {
            let mut objects = chart();
            *objects[object].pointer_mut(&pointer).unwrap() = value;
            let found = complaints(&objects).join("\n");
            assert!(found.contains(said), "{pointer}: {found}");
        }
        let mut twice = chart();
        twice.push(twice[0].clone());
        assert!(complaints(&twice)[0].contains("twice"));
    }
}
