{{/*
What each CNI has where: paths and users on its nodes, services and secrets in its cluster. As Kube-OVN 1.16's charts and
OVN-Kubernetes' with one zone for all nodes (ovnkube-db) have it; the secret ovn-cert is OpenShift's.
*/}}
{{- define "limosa.presets" -}}
kube-ovn:
  # ovs-ovn's pods run as nobody, but for IPsec (then 0).
  ovsRundir: /run/openvswitch
  runAsUser: 65534
  nbHost: ovn-nb.kube-system.svc
  sbHost: ovn-sb.kube-system.svc
  tls: { secretName: kube-ovn-tls, certificateKey: cert, privateKeyKey: key, caKey: cacert, caConfigMap: "" }
ovn-kubernetes:
  ovsRundir: /var/run/openvswitch
  runAsUser: 0
  # Headless: the name has the address of every server.
  nbHost: ovnkube-db.ovn-kubernetes.svc
  sbHost: ovnkube-db.ovn-kubernetes.svc
  tls: { secretName: ovn-cert, certificateKey: tls.crt, privateKeyKey: tls.key, caKey: ca-bundle.crt, caConfigMap: ovn-ca }
plain:
  ovsRundir: /var/run/openvswitch
  runAsUser: 0
  nbHost: ""
  sbHost: ""
  tls: { secretName: "", certificateKey: tls.crt, privateKeyKey: tls.key, caKey: ca.crt, caConfigMap: "" }
{{- end }}

{{- define "limosa.preset" -}}
{{- $cni := .Values.cni -}}
{{- get (include "limosa.presets" . | fromYaml) $cni | toYaml -}}
{{- end }}

{{- define "limosa.agent.ovsRundir" -}}
{{- .Values.agent.ovsRundir | default (include "limosa.preset" . | fromYaml).ovsRundir -}}
{{- end }}

{{/* 0 is a user, too. */}}
{{- define "limosa.agent.runAsUser" -}}
{{- $user := .Values.agent.runAsUser -}}
{{- if kindIs "invalid" $user }}{{ $user = (include "limosa.preset" . | fromYaml).runAsUser }}{{ end -}}
{{- int64 $user -}}
{{- end }}

{{/* Call with root, and database: nb or sb. */}}
{{- define "limosa.remote" -}}
{{- $ovn := .root.Values.ovn -}}
{{- $method := ternary "ssl" "tcp" $ovn.tls.enabled -}}
{{- $port := ternary "6641" "6642" (eq .database "nb") -}}
{{- $service := get (include "limosa.preset" .root | fromYaml) (printf "%sHost" .database) -}}
{{- if get $ovn .database -}}
{{- get $ovn .database -}}
{{- else if $ovn.hosts -}}
{{- $remotes := list -}}
{{- range $ovn.hosts -}}
{{- $host := ternary (printf "[%s]" .) . (contains ":" .) -}}
{{- $remotes = append $remotes (printf "%s:%s:%s" $method $host $port) -}}
{{- end -}}
{{- join "," $remotes -}}
{{- else if $service -}}
{{- printf "%s:%s:%s" $method $service $port -}}
{{- else -}}
{{- fail (printf "cni %s has no service for OVN's databases: set ovn.hosts, or ovn.nb and ovn.sb" .root.Values.cni) -}}
{{- end -}}
{{- end }}

{{/* secretName, certificateKey, privateKeyKey, caKey, caConfigMap. */}}
{{- define "limosa.tls" -}}
{{- $own := omit .Values.ovn.tls "enabled" -}}
{{- $tls := (include "limosa.preset" . | fromYaml).tls -}}
{{- /* Whose secret is named, in that is everything that is not said to be elsewhere. */ -}}
{{- if $own.secretName }}{{ $_ := set $tls "caConfigMap" "" }}{{ end -}}
{{- range $key, $value := $own -}}
{{- if $value }}{{ $_ := set $tls $key $value }}{{ end -}}
{{- end -}}
{{- if not $tls.secretName }}{{ fail "ovn.tls.enabled needs ovn.tls.secretName with this cni" }}{{ end -}}
{{- $tls | toYaml -}}
{{- end }}
