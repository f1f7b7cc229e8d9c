{{/*
What the controller may do: the least that its work needs. The same as load-controller/src/resource/rbac.rs, where each
rule has its reason; a test compares them.
*/}}

{{/* In every namespace with fleets. */}}
{{- define "simctl.rules.fleets" -}}
- {apiGroups: [simctl.io], resources: [fleets], verbs: [get, list, watch]}
- {apiGroups: [simctl.io], resources: [fleets/status], verbs: [patch]}
- {apiGroups: [simctl.io], resources: [loadtests], verbs: [list, watch, patch]}
- {apiGroups: [simctl.io], resources: [loadtests/status], verbs: [patch]}
- {apiGroups: [simctl.io], resources: [fleetqueries], verbs: [list, watch, delete]}
- {apiGroups: [simctl.io], resources: [fleetqueries/status], verbs: [patch]}
- {apiGroups: [apps], resources: [statefulsets], verbs: [list, watch, create, patch, delete]}
- {apiGroups: [""], resources: [services], verbs: [list, watch, create, patch, delete]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch, create, patch, delete]}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [list, watch, create, patch]}
- {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [""], resources: [secrets], verbs: [create, patch]}
- {apiGroups: [""], resources: [pods], verbs: [list, watch, delete]}
- {apiGroups: [batch], resources: [jobs], verbs: [get, create, delete]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list, watch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
- {apiGroups: [""], resources: [events], verbs: [list]}
{{- end }}

{{/* Of the whole cluster: which nodes are lost. */}}
{{- define "simctl.rules.nodes" -}}
- {apiGroups: [""], resources: [nodes], verbs: [list, watch]}
{{- end }}

{{/* In the controller's own namespace: the Lease, the label of the pod that leads, and the controller's key. */}}
{{- define "simctl.rules.own" -}}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
- {apiGroups: [""], resources: [pods], verbs: [patch]}
- {apiGroups: [""], resources: [secrets], verbs: [create]}
- {apiGroups: [""], resources: [secrets], resourceNames: [load-controller-key], verbs: [get]}
{{- end }}

{{/* To whom the rules are given. */}}
{{- define "simctl.subjects" -}}
- kind: ServiceAccount
  name: load-controller
  namespace: {{ .Release.Namespace }}
{{- end }}
