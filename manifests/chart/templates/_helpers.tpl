{{/* The labels that select the controller's pods; they never change. */}}
{{- define "simctl.selector" -}}
app.kubernetes.io/name: load-controller
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{/* The labels of every object. */}}
{{- define "simctl.labels" -}}
{{ include "simctl.selector" . }}
app.kubernetes.io/part-of: simctl
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The name of what is of the whole cluster: with the namespace, so that two releases can stand side by side. */}}
{{- define "simctl.clusterName" -}}
{{ .Release.Namespace }}:load-controller
{{- end }}

{{/* The name of the policy of the whole cluster, which may have no colon. */}}
{{- define "simctl.policyName" -}}
{{ .Release.Namespace }}.fleets.simctl.io
{{- end }}

{{/* An image: (list . "device-sim" digest). A digest wins over the tag. */}}
{{- define "simctl.image" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $digest := index . 2 -}}
{{- $image := $root.Values.image -}}
{{- if $digest -}}
{{ $image.registry }}/{{ $name }}@{{ $digest }}
{{- else -}}
{{ $image.registry }}/{{ $name }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Which namespaces a monitor of the Prometheus Operator looks into. */}}
{{- define "simctl.watchedNamespaces" -}}
{{- if .Values.watchNamespaces }}
matchNames: {{ .Values.watchNamespaces | toJson }}
{{- else }}
any: true
{{- end }}
{{- end }}
