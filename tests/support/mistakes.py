"""A fleet file with ten different mistakes, each on a line of its own: for the loader, the CLI and the demo."""

TEN_MISTAKES = """\
apiVersion: sluice/v2
kind: Fleet
metadata: {name: Acme Works}
spec:
  enterprise: acme
  enterprize: acme
  sites:
    - name: hamburg
      timeZone: Europe/Berln
      lables: {ring: canary}
      nodes:
        - name: edge1
        - name: edge1
    - name: hamburg
      nodes: []
    - name: leipzig
      nodes: edge1
      description: 42
"""
