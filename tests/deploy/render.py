"""render.py CHART VALUES VERSION...

Renders the chart with the values by Helm's own engine, holds every manifest against the schemas of these
Kubernetes versions (unknown fields are errors), and prints the manifests as a JSON array. Custom resources
have no schema there and are only printed.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

chart_path, values_path, *versions = sys.argv[1:]
with open(values_path) as file:
    values = yaml.safe_load(file)
with helm_python.Chart.load(chart_path) as chart:
    rendered = chart.render(values, name="trigger", namespace="trigger")

manifests = [doc for text in rendered.values() for doc in yaml.safe_load_all(text) if doc]
for manifest in manifests:
    if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
        continue
    for version in versions:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = "/".join(str(step) for step in error.path)
            sys.exit(f"{manifest['kind']} {manifest['metadata']['name']}, {place}, Kubernetes {version}: {error.message}")
print(json.dumps(manifests))
