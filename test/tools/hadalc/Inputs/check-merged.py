# Every expert of each layer is a member of one merged expert, of which one is what the others are like.
import json
import sys

layers = json.load(open(sys.argv[1]))["merged_experts"]
assert [layer["router"] for layer in layers] == [f"layers.{i}.mlp.gate" for i in (1, 2, 3)], layers
for layer in layers:
    members = [member for expert in layer["experts"] for member in expert]
    assert len(layer["experts"]) == 12, layer
    assert sorted(member["expert"] for member in members) == list(range(16)), layer
    assert abs(sum(member["mass_share"] for member in members) - 1) < 1e-6, layer
    for expert in layer["experts"]:
        most = max(expert, key=lambda member: member["mass_share"])
        assert most["similarity"] == 1, expert
        assert all(-1 <= member["similarity"] <= 1 + 1e-9 for member in expert), expert
