{{- define "limosa.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "limosa.fullname" -}}
{{- $name := include "limosa.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $both .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Call with root and component. */}}
{{- define "limosa.selector" -}}
app.kubernetes.io/name: {{ include "limosa.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "limosa.labels" -}}
{{ include "limosa.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "limosa.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end }}

{{- define "limosa.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of a container: nothing that it does not need. */}}
{{- define "limosa.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "limosa.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: metrics }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /healthz, port: metrics }
  timeoutSeconds: 5
readinessProbe:
  httpGet: { path: /readyz, port: metrics }
  periodSeconds: 5
{{- end }}

{{/* What agents and controllers are told alike. */}}
{{- define "limosa.commonArgs" -}}
- --kubernetes
{{- with .Values.watchNamespace }}
- --namespace={{ . }}
{{- end }}
- --metrics-listen={{ .Values.metrics.address }}:{{ .Values.metrics.port }}
{{- end }}

{{/* A pod that looks at the migrations and asks for something. Call with root, name and args. */}}
{{- define "limosa.verb" -}}
serviceAccountName: {{ include "limosa.fullname" .root }}-operator
restartPolicy: Never
{{- with include "limosa.pullSecrets" .root | trim }}
{{ . }}
{{- end }}
priorityClassName: {{ .root.Values.controller.priorityClassName }}
nodeSelector:
  {{- toYaml .root.Values.controller.nodeSelector | nindent 2 }}
tolerations:
  {{- toYaml .root.Values.controller.tolerations | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 .root.Values.controller.runAsUser }}
  runAsGroup: {{ int64 .root.Values.controller.runAsUser }}
containers:
  - name: {{ .name }}
    image: {{ include "limosa.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
      - --kubernetes
      {{- with .root.Values.watchNamespace }}
      - --namespace={{ . }}
      {{- end }}
    securityContext:
      {{- include "limosa.confined" .root | nindent 6 }}
    resources:
      {{- toYaml .root.Values.controller.resources | nindent 6 }}
{{- end }}
