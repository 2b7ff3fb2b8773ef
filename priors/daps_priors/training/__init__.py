"""How a denoiser is trained: images, augmentation, steps shared by several processes, and how it is measured.

settings    what a training recipe says, with fields    trainer     all of it together, for `Denoiser`
dataset     images from files                           augment     their random changes
batches     the examples of a step                      objective   the loss
teacher     another network's guesses as the target     grow        starting from a smaller network
state       weights, their average, the optimiser       muon        the optimiser
step        one step; `NetworkLearner`                  workers     processes that share it
validation  squared errors and pictures                photos      the trainer of photographs, by the same parts

Another network is trained by the same parts. It is any `nn.Module`; one with `parts(x, sigma)`, which corrects a linear
denoiser, is trained by `DenoisingError`, whatever `Examples` it is given, any other by an `Objective` of its own:

    state = State(model, Optimisation(...), outer=("stem.", "out."))      # outer layers are AdamW's, the rest Muon's
    folder = TrainingFolder(output, FORMAT, identity)                     # of daps_kit.training
    if found := folder.resume():
        state.restore(*found)
    with workers(count, state, blank, objective) as mean:                 # blank() makes a state to be restored
        train(MyLearner(state, objective, mean), folder, Pace(...), progress)

where MyLearner is a `NetworkLearner` that says what is measured and recorded each epoch. `state.ema` is the outcome.
"""

from .settings import TrainDenoiser

__all__ = ["TrainDenoiser"]
