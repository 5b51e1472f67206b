"""Models: Keras builders, the fused recurrent loop, the linear model and safe loading."""
