"""The operators with their gradients, as JAX transforms them: plumbing, without arithmetic.

apply        a call of a function: checked, its settings made hashable, given to `_operator`
_operator    custom_vjp: the result, and the gradients that are wanted
Task         what is to be computed, without its arrays: hashable, so that JAX compiles it once
_computed    at once where the arrays are there; where JAX traces, by a callback when it runs

The callback on the CPU is buffer_callback, whose arrays lie in XLA's own memory: pure_callback
hands over arrays that are still being copied, and a program on one core waits for itself (jax
0.10.2). Under vmap both are called once for each example: an operator knows one batch axis.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from deformable_convnets import gpu, reference
from deformable_convnets.reference import checks, geometry, roi_checks, volume_checks

from .. import arrays, frameworks, registry

PER_AXIS = ("stride", "dilation", "output_size", "group_size", "part_size")
VOLUMES = "deform_conv3d"
CHOICE = ("backend", "version", "precision", "workspace_limit")
PLATFORMS = ("cpu", "gpu", "cuda")  # of a device of JAX's; what it calls gpu may be another's
EACH = "sequential"

Named = dict[str, Any]


class Task(NamedTuple):
    """One call of a function of `reference` or `gpu`, but for its arrays."""

    function: str
    arrays: tuple[str, ...]  # their order, which JAX forgets
    settings: tuple[tuple[str, Any], ...]
    choice: tuple[Any, ...]
    results: tuple[tuple[str, tuple[int, ...], Any], ...]  # name, shape and dtype

    def avals(self) -> Named:
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in self.results}

    def run(self, given: Named, *, on_gpu: bool) -> Named:
        """The results by name, in their dtypes, as NumPy's arrays or as those given.

        on_gpu  whether `gpu` computes, which backend and version ask for as well
        """
        choice: Named = dict(zip(CHOICE, self.choice, strict=True))
        on_gpu = on_gpu or choice["backend"] is not None or choice["version"] is not None
        if given["x"].dtype.name == "bfloat16" and not (
            on_gpu
            and registry.takes_bfloat16(
                registry.Choice(**choice, device=arrays.place({"x": given["x"]}).device),
                self.function,
            )
        ):
            given = {n: None if a is None else a.astype(np.float32) for n, a in given.items()}
        arguments = given | dict(self.settings)
        if on_gpu:
            made = getattr(gpu, self.function)(**arguments, **choice, **self._wanted())
        else:
            made = getattr(reference, self.function)(**arguments)
        return {n: self._of(made, n).astype(dtype, copy=False) for n, _, dtype in self.results}

    def _wanted(self) -> Named:
        backward = self.function.endswith("_backward")
        return {"wrt": tuple(name for name, _, _ in self.results)} if backward else {}

    def _of(self, made: Any, name: str) -> Any:
        return getattr(made, name) if self.function.endswith("_backward") else made


def apply(name: str, given: Named, settings: Named, choice: tuple[Any, ...]) -> jax.Array:
    """Calls an operator as its function in `reference` or `gpu` is called, and with its errors."""
    described = {n: _described(a) for n, a in given.items()}
    at = _checked(name, described, settings, _known(given.get("rois")))
    named = dict(zip(CHOICE, choice, strict=True))
    registry.check(registry.Choice(**named, dtype=described["x"].dtype.name))
    packed = tuple((key, _packed(name, key, value)) for key, value in settings.items())
    result = ("y", _output_shape(name, described, at), described["x"].dtype)
    task = Task(name, tuple(given), packed, tuple(choice), (result,))
    own = {n: None if a is None else _own(a) for n, a in given.items()}
    return _operator(task, _spread(own, own))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _operator(task: Task, given: Named) -> jax.Array:
    return _computed(task, given)["y"]


def _remember(task: Task, given: Named) -> tuple[jax.Array, tuple[Named, Named]]:
    """The result; kept are the arrays, and the names of the gradients that are wanted."""
    wanted = {n: None for n, a in given.items() if a is not None and a.perturbed and n != "rois"}
    values = {n: None if a is None else a.value for n, a in given.items()}
    return _operator(task, values), (values, wanted)


def _differentiate(task: Task, kept: tuple[Named, Named], grad_output: Any) -> tuple[Named]:
    given, wanted = kept
    if not wanted or isinstance(grad_output, jax.custom_derivatives.SymbolicZero):
        return (dict.fromkeys(given),)
    results = tuple((n, given[n].shape, given[n].dtype) for n in task.arrays if n in wanted)
    backward = task._replace(
        function=f"{task.function}_backward",
        arrays=("grad_output", *task.arrays),
        results=results,
    )
    grads = _gradients(backward, {"grad_output": grad_output} | given)
    return ({name: grads.get(name) for name in given},)


_operator.defvjp(_remember, _differentiate, symbolic_zeros=True)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gradients(task: Task, given: Named) -> Named:
    return _computed(task, given)


@_gradients.defjvp
def _refuse(task: Task, primals: Any, tangents: Any) -> Any:
    raise RuntimeError(
        f"the gradient of {task.function.removesuffix('_backward')} was to be differentiated:"
        " second derivatives are not offered"
    )


def _computed(task: Task, given: Named) -> Named:
    """The results of a task by name, as arrays of JAX."""
    if any(isinstance(a, jax.core.Tracer) for a in given.values()):
        return _spread(_called_back(task, given), given)
    there = {n: given[n] for n in task.arrays if given[n] is not None}
    placed, device = _placed({n: _own(a) for n, a in there.items()})
    if device.platform != "cpu":
        return task.run(given | placed, on_gpu=True)
    on_cpu = given | {n: np.asarray(a) for n, a in placed.items()}
    fixed = device if any(a.committed for a in placed.values()) else None
    made = task.run(on_cpu, on_gpu=False)
    return {n: jax.device_put(a, fixed) for n, a in made.items()}


@partial(jax.jit, static_argnums=0)
def _called_back(task: Task, given: Named) -> Named:
    """The same for arrays that are not there yet; on a GPU by copies in host memory."""
    ways = {"cuda": _through_host, "default": _in_place}
    return jax.lax.platform_dependent(given, **{at: partial(f, task) for at, f in ways.items()})


def _spread(made: Named, given: Named) -> Named:
    """Inside jax.shard_map, arrays that JAX knows to differ between devices if a given one does.

    It believes that what a callback returns is the same on all, and then adds up no gradients.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return made
    nothing = [a.reshape(-1)[:0].sum().astype(np.float32) for a in given.values() if a is not None]
    zero = jax.lax.stop_gradient(sum(nothing))
    return {n: None if a is None else a + zero.astype(a.dtype) for n, a in made.items()}


def _in_place(task: Task, given: Named) -> Named:
    """By `reference`, into the memory of the results."""

    def write(context: Any, out: Named, buffers: Named) -> None:
        on_cpu = {n: None if a is None else np.asarray(a) for n, a in buffers.items()}
        for name, result in task.run(on_cpu, on_gpu=False).items():
            np.asarray(out[name])[...] = result

    return buffer_callback(write, task.avals(), vmap_method=EACH)(given)


def _through_host(task: Task, given: Named) -> Named:
    """By `gpu`, from and to host memory."""

    def call(copies: Named) -> Named:
        on_cpu = {n: None if a is None else np.asarray(a) for n, a in copies.items()}
        return task.run(on_cpu, on_gpu=True)

    return jax.pure_callback(call, task.avals(), given, vmap_method=EACH)


def _own(a: Any) -> jax.Array:
    """As JAX's own: what is differentiated may be NumPy's inside."""
    return a if isinstance(a, jax.Array) else jnp.asarray(a)


def _described(a: Any) -> Any:
    """What `checks` has to know of an array: of NumPy's, in the dtype that JAX makes of it."""
    if isinstance(a, jax.Array):
        return checks.Described(tuple(a.shape), frameworks.dtype(str(a.dtype)))
    plain = isinstance(a, np.ndarray) and not isinstance(a, checks.NOT_PLAIN)
    if plain and a.dtype.name in (*checks.DTYPES, "bfloat16") and a.dtype.isnative:
        return checks.Described(a.shape, jax.dtypes.canonicalize_dtype(a.dtype))
    return a


def _known(rois: Any) -> Any:
    """The values of RoIs, if they are there; those of a trace are checked when it runs."""
    return np.empty((0, 5)) if isinstance(rois, jax.core.Tracer) else rois


def _checked(name: str, given: Named, settings: Named, roi_values: Any) -> Any:
    """By the checks of `reference`; the geometry of the call, but for `sample`."""
    if "rois" in given:
        return roi_checks.check_roi_pool(**given, **settings, roi_values=roi_values)
    if name == "sample":
        return checks.check_sample(given["x"], given["p"], settings["border"])
    if name == VOLUMES:
        return volume_checks.check_deform_conv3d(**given, **settings)
    check = checks.check_conv2d if name == "conv2d" else checks.check_deform_conv2d
    return check(**given, **settings)


def _output_shape(name: str, given: Named, at: Any) -> tuple[int, ...]:
    if name == "sample":
        return given["x"].shape[0], *given["p"].shape[:-1]
    if isinstance(at, geometry.RoiGeometry):
        return given["rois"].shape[0], at.channels, *at.output
    return given["x"].shape[0], given["weight"].shape[0], *at.output


def _packed(operator: str, name: str, value: Any) -> Any:
    """A setting as something hashable."""
    axes = 3 if operator == VOLUMES else 2
    if name == "padding":
        return geometry.both_sides(name, value, axes)
    if name in PER_AXIS:
        return None if value is None else geometry.per_axis(name, value, axes, at_least=1)
    return float(value) if name in ("spatial_scale", "gamma") else value


def _placed(given: Named) -> tuple[Named, Any]:
    """The arrays, all on one device, and it.

    As everywhere in JAX, what was put on no device goes where the others are.
    """
    where = {n: {f"{d.platform}:{d.id}" for d in a.devices()} for n, a in given.items()}
    fixed = [n for n, a in given.items() if a.committed] or ["x"]
    places = sorted({place for n in fixed for place in where[n]})
    if len(places) > 1:
        said = ", ".join(f"{n} on {' and '.join(sorted(where[n]))}" for n in fixed)
        checks.Call(**given).fail(
            f"the arrays are in different places, {said}, expected all in one: jax.device_put;"
            " jax.jit takes arrays that are spread over the same devices"
        )
    (device,) = given[fixed[0]].devices()
    if device.platform not in PLATFORMS:
        checks.Call(**given).fail(
            f"the arrays are on {places[0]}, expected {arrays.CPU} or a CUDA device"
        )
    there = {n: a.devices() == {device} for n, a in given.items()}
    return {n: a if there[n] else jax.device_put(a, device) for n, a in given.items()}, device
