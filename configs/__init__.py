"""The configs that ship, one folder a method; `ssl-lightning configs` lists them."""
