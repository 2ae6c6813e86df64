"""The Hamiltonians of a Neural Hamiltonian Flow, from its arguments."""

from hgn_tf.networks import (
    BumpEnergy,
    EnergyNet,
    QuadraticEnergy,
    SeparableHamiltonian,
    StackedHamiltonian,
    layer_from,
)


def make_hamiltonians(
    given, count: int, kinetic_energy: str, energy: str, units, dtype, **mlp
) -> list | StackedHamiltonian:
    """The Hamiltonians of the flow, in its order: as given, or in one stack.

    Args:
      given: Layers or their configurations, taken as they are; None to make
        them.
      count: How many there must be.
      kinetic_energy: "learned", or "quadratic" for |p|^2 / 2.
      energy: "mlp", or "bumps".
      units: Hidden widths of an MLP; of bumps, (their number,).
      dtype: Policy of the layers.
      **mlp: Further arguments of `networks.EnergyNet`.
    Raises: ValueError: for an unknown name, or another number of layers.
    """
    for name, value, choices in (
        ("kinetic_energy", kinetic_energy, ["learned", "quadratic"]),
        ("energy", energy, ["bumps", "mlp"]),
    ):
        if value not in choices:
            raise ValueError(
                f"`{name}` must be one of {choices}. Received: {value!r}."
            )
    if energy == "bumps" and len(units) != 1:
        raise ValueError(
            "`units` of bumps must be their number alone, such as (64,). "
            f"Received: {tuple(units)}."
        )
    if given is not None:
        if len(given) != count:
            raise ValueError(
                f"`hamiltonians` must be {count}, one for each of "
                "`num_hamiltonians` or one that is shared. Received: "
                f"{len(given)}."
            )
        return [layer_from(layer) for layer in given]

    def make():
        if energy == "bumps":
            return BumpEnergy(*units, dtype=dtype)
        return EnergyNet(units, convolutional=False, dtype=dtype, **mlp)

    def make_kinetic():
        if kinetic_energy == "quadratic":
            return QuadraticEnergy(dtype=dtype.name)
        return make()

    template = SeparableHamiltonian(make_kinetic(), make(), dtype=dtype)
    return StackedHamiltonian(template, count, dtype=dtype)
