"""The recurrent cells, one module each; :data:`imdbtune.config.extensions.CELLS` names them.

A module holds all that is particular to its cell: the layer of Keras, the step of the compiled
loop with its gradient, the equations in NumPy, and the operator of ONNX. Reading its attributes
imports neither TensorFlow nor Keras.
"""
