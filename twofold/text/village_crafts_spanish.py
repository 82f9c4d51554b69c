# ruff: noqa: E501 -- a sentence is kept on one line
"""How things are done in the village, in Spanish (the same as `village_crafts_english`).

Steps are told in the infinitive after "hay que" or in the polite form of a recipe: "lavar las manos".
"""

from __future__ import annotations

TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "baker": (
        "hornear un pan",
        (
            "mezclar harina, agua y sal",
            "amasar con las dos manos",
            "dejar reposar la masa {n} minutos",
            "meterla en el horno caliente",
            "sacarla cuando suena hueca",
        ),
    ),
    "barber": (
        "cortar el pelo",
        (
            "lavar el pelo",
            "peinarlo bien",
            "cortar poco a poco",
            "mirar por los dos lados",
            "barrer el suelo",
        ),
    ),
    "basket maker": (
        "hacer una cesta",
        (
            "mojar las varas {n} minutos",
            "poner las varas largas en cruz",
            "tejer alrededor",
            "doblar las puntas hacia arriba",
            "atar el borde",
        ),
    ),
    "beekeeper": (
        "sacar miel de una colmena",
        (
            "ponerse un velo",
            "echar un poco de humo",
            "levantar despacio un panal",
            "apartar las abejas",
            "dejar caer la miel en un tarro",
        ),
    ),
    "blacksmith": (
        "hacer una herradura",
        (
            "calentar mucho el fuego",
            "poner el hierro en el fuego",
            "golpearlo mientras brilla",
            "darle la forma correcta",
            "enfriarlo en agua",
        ),
    ),
    "carpenter": (
        "hacer un estante",
        (
            "medir la pared",
            "cortar la madera",
            "alisar los bordes",
            "fijar las tablas con tornillos",
            "comprobar que está recto",
        ),
    ),
    "chimney sweep": (
        "limpiar una chimenea",
        (
            "cubrir el suelo con una tela",
            "subir al tejado",
            "bajar el cepillo",
            "subirlo {n} veces",
            "llevarse el hollín",
        ),
    ),
    "clockmaker": (
        "arreglar un reloj",
        (
            "abrir la caja",
            "buscar la rueda rota",
            "limpiar cada pieza",
            "poner una rueda nueva",
            "darle cuerda y escuchar",
        ),
    ),
    "fisher": (
        "arreglar una red",
        (
            "extender la red en el suelo",
            "buscar los agujeros",
            "cortar los hilos sueltos",
            "hacer nudos nuevos",
            "dejarla secar {n} minutos",
        ),
    ),
    "gardener": (
        "plantar un árbol",
        (
            "hacer un hoyo profundo",
            "poner el árbol dentro",
            "llenar el hoyo de tierra",
            "apretar la tierra con el pie",
            "regarlo con mucha agua",
        ),
    ),
    "librarian": (
        "arreglar un libro",
        (
            "poner el libro en la mesa",
            "limpiar la página rota",
            "poner un poco de cola en el borde",
            "apretarlo con una piedra",
            "esperar {n} minutos",
        ),
    ),
    "locksmith": (
        "abrir una cerradura difícil",
        (
            "limpiar la cerradura",
            "echar una gota de aceite",
            "esperar {n} minutos",
            "girar la llave con cuidado",
            "probar varias veces",
        ),
    ),
    "nurse": (
        "curar un corte pequeño",
        (
            "lavarse las manos",
            "limpiar el corte con agua",
            "secarlo con una tela limpia",
            "poner una venda",
            "mirarlo otra vez después de {n} horas",
        ),
    ),
    "painter": (
        "pintar una pared",
        (
            "cubrir el suelo",
            "limpiar la pared",
            "remover la pintura",
            "pintar de arriba abajo",
            "dejarla secar {n} horas",
        ),
    ),
    "plumber": (
        "arreglar una tubería",
        (
            "cerrar el agua",
            "encontrar el agujero",
            "secar la tubería",
            "cerrar el agujero con un anillo",
            "abrir el agua y comprobar",
        ),
    ),
    "potter": (
        "hacer un cuenco de barro",
        (
            "amasar el barro",
            "ponerlo en el torno",
            "girar el torno y apretar con los dedos",
            "subir los lados",
            "cocerlo {n} horas",
        ),
    ),
    "roofer": (
        "arreglar un tejado",
        (
            "poner la escalera",
            "encontrar la teja rota",
            "quitarla",
            "meter una teja nueva",
            "probar con agua",
        ),
    ),
    "shepherd": (
        "llevar las ovejas a casa",
        (
            "llamar a las ovejas",
            "contarlas",
            "buscar las que faltan",
            "llevarlas por el camino",
            "cerrar la puerta detrás",
        ),
    ),
    "shoemaker": (
        "arreglar un zapato",
        (
            "quitar la suela vieja",
            "limpiar el zapato",
            "cortar una suela nueva",
            "pegarla y clavarla",
            "darle brillo",
        ),
    ),
    "tailor": (
        "coser un botón",
        (
            "elegir un hilo fuerte",
            "hacer un nudo en la punta",
            "pasar la aguja {n} veces",
            "dar vueltas con el hilo",
            "cortar lo que sobra",
        ),
    ),
    "teacher": (
        "enseñar a leer a un niño",
        (
            "elegir un cuento corto",
            "leerlo en voz alta",
            "mostrar las letras una por una",
            "dejar que pruebe",
            "alegrarse de cada paso",
        ),
    ),
    "vet": (
        "calmar a un animal asustado",
        (
            "hablar en voz baja",
            "sentarse en el suelo",
            "esperar {n} minutos",
            "ofrecer la mano",
            "moverse despacio",
        ),
    ),
    "weaver": (
        "tejer una tela",
        (
            "elegir el hilo",
            "estirar los hilos largos",
            "pasar el hilo cruzado",
            "apretarlo bien",
            "hacerlo {n} veces",
        ),
    ),
    "woodcutter": (
        "partir leña",
        (
            "elegir un tronco seco",
            "ponerlo sobre el tajo",
            "separar los pies",
            "bajar el hacha en línea recta",
            "amontonar los trozos",
        ),
    ),
}

RECIPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "oven": (
        ("calentar el horno", "encender el horno"),
        ("preparar todo para {the_food}", "poner en la mesa todo lo necesario para {the_food}"),
        ("lavarse las manos y tomar un cuenco grande", "untar un molde con mantequilla"),
        ("meterlo todo en el horno {n} minutos", "hornearlo todo {n} minutos"),
        ("sacar el plato con cuidado", "sacarlo del horno cuando huele bien"),
        ("dejar que se enfríe y servir", "llevarlo a la mesa todavía caliente"),
    ),
    "pot": (
        ("lavar y cortar todo para {the_food}", "preparar todo para {the_food}"),
        ("llenar una olla de agua", "poner una olla grande al fuego"),
        ("meter todo en la olla", "añadir una cosa después de otra"),
        ("dejarlo cocer {n} minutos", "cocerlo despacio {n} minutos"),
        ("remover de vez en cuando", "no olvidarse de remover"),
        ("probar antes de servir", "llenar los platos"),
    ),
    "pan": (
        ("preparar todo para {the_food}", "lavar y cortar todo para {the_food}"),
        ("calentar aceite en una sartén", "fundir mantequilla en una sartén"),
        ("meter todo en la sartén", "llenar la sartén, pero no demasiado"),
        ("freírlo {n} minutos", "dejarlo en la sartén {n} minutos"),
        ("darle la vuelta con cuidado", "darle la vuelta una vez"),
        ("añadir sal y servir caliente", "comerlo enseguida"),
    ),
    "bowl": (
        ("lavar todo para {the_food}", "preparar todo para {the_food}"),
        ("cortarlo en trozos pequeños", "cortarlo con un buen cuchillo"),
        ("ponerlo en un cuenco grande", "tomar un cuenco hondo"),
        ("mezclar aceite, sal y vinagre", "añadir aceite y un poco de sal"),
        ("dejarlo reposar {n} minutos", "guardarlo en un lugar fresco {n} minutos"),
        ("remover y servir", "mezclar bien y llevar a la mesa"),
    ),
}
TASK_TITLES = ("Cómo {task}", "{name} explica cómo {task}", "Aprender a {task}", "Así se aprende a {task}")
TASK_OPENINGS = (
    "{name} es {trade} y sabe {task}.", "{name} trabaja de {trade} y enseña cómo {task}.",
    "{name}, que vive en {street}, es {trade}. Así explica {name} cómo {task}.",
    "Pregunta a {name}, {a_trade} de Larkmoor, cómo {task}.",
)  # fmt: skip
RECIPE_TITLES = (
    "Cómo hacer {the_food}",
    "Una receta: {the_food}",
    "{The_food}",
    "{The_food} como le gusta a {name}",
)
RECIPE_OPENINGS = (
    "La comida favorita de {name} es {the_food}. Así hay que preparar el plato.", "A {name} le encanta {the_food}, y por eso sabe hacer este plato.",
    "{name} prefiere {the_food} a cualquier otra comida, y la receta es fácil.",
    "{name}, de {street}, come {the_food} cada semana, porque es su comida favorita.",
)  # fmt: skip
FIRST, NEXT, LAST = (
    ("Primero", "Para empezar", "Al principio"),
    ("Después", "Luego", "A continuación", "Ahora"),
    ("Por último", "Al final", "Finalmente"),
)
TIPS = (
    "No hay prisa.",
    "Es fácil cuando ya se ha hecho una vez.",
    "Si hace falta, pide ayuda.",
    "Hay que tener paciencia.",
    "Mantén limpio el lugar.",
)
