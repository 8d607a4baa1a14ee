"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared."""

__version__ = "0.1.0"
