{{- define "prescale.labels" -}}
app.kubernetes.io/part-of: prescale
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "prescale.image" -}}
{{ .root.Values.image.prefix }}{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* How the aggregator is spoken to, as probes name it. */}}
{{- define "prescale.scheme" -}}
{{ if .Values.tls.enabled }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* The Secret with the aggregator's certificate and key. */}}
{{- define "prescale.tlsSecret" -}}
{{ .Values.tls.existingSecret | default "prescale-aggregator-tls" }}
{{- end }}

{{/* The ConfigMap with the authority; empty: agents take it from the Secret. */}}
{{- define "prescale.caConfigMap" -}}
{{- if .Values.tls.caConfigMap }}{{ .Values.tls.caConfigMap }}
{{- else if not (or .Values.tls.existingSecret .Values.tls.certManager.issuerRef.name) }}prescale-ca{{ end }}
{{- end }}

{{/* The volume with the authority alone. */}}
{{- define "prescale.caVolume" -}}
name: ca
{{- with include "prescale.caConfigMap" . }}
configMap: {name: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- else }}
secret: {secretName: {{ include "prescale.tlsSecret" . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}

{{/* Nothing but what the program needs: both containers share it. */}}
{{- define "prescale.locked" -}}
allowPrivilegeEscalation: {{ .privilegeEscalation | default false }}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
seccompProfile: {type: RuntimeDefault}
{{- end }}
